/* libsvm to compressed rows, for clary.recordio.libsvm: first how many, then what. */
#include "text.h"

#include "libsvm_core.h"

/* libsvm_shape(block) -> (rows, values): no more than these. */
KERNEL(libsvm_shape) {
    Py_buffer block;
    if (miscounted(count, 1) || take(given, &block, 1, 0))
        return NULL;
    size_t rows = occurrences(block.buf, (size_t)block.len, '\n');
    size_t values = occurrences(block.buf, (size_t)block.len, ':');
    give_back(&block, 1);
    return Py_BuildValue("nn", (Py_ssize_t)rows, (Py_ssize_t)values);
}

WIDE static bool parse(const uint8_t *text, size_t size, LibsvmRows *rows) { return libsvm_parse(text, size, rows); }

/* libsvm_rows(block, labels, indptr, indices, values, first_index, columns, labelled) -> (rows, values, width): fills
 * float32 labels and values, int64 indptr and indices; columns is -1 for any number of them, and width one more than
 * the largest index. None where the block has anything unusual, or does not end with a newline, or the arrays cannot
 * hold it. */
KERNEL(libsvm_rows) {
    Py_buffer views[5]; /* the block, labels, indptr, indices, values */
    if (miscounted(count, 8))
        return NULL;
    long long first = PyLong_AsLongLong(given[5]), columns = PyLong_AsLongLong(given[6]);
    int labelled = PyObject_IsTrue(given[7]);
    if (PyErr_Occurred() || take(given, views, 5, 4))
        return NULL;
    PyObject *answer = NULL;
    size_t size = (size_t)views[0].len, rows = (size_t)views[1].len / sizeof(float);
    size_t values = (size_t)views[4].len / sizeof(float);
    if ((size_t)views[2].len / sizeof(int64_t) < rows + 1 || (size_t)views[3].len / sizeof(int64_t) < values) {
        too_short();
        goto done;
    }
    LibsvmRows table = {
        .first = first,
        .columns = columns,
        .labelled = labelled,
        .most_rows = rows,
        .most_values = values,
        .labels = views[1].buf,
        .borders = views[2].buf,
        .indices = views[3].buf,
        .values = views[4].buf,
    };
    bool read = false;
    if (ends_a_line(&views[0]) && first >= 0 && first <= LARGEST_COLUMN) {
        PyThreadState *state = let_others_run(&views[0]);
        read = parse(views[0].buf, size, &table);
        go_on(state);
    }
    answer = read ? Py_BuildValue("nnL", (Py_ssize_t)table.rows, (Py_ssize_t)table.count, (long long)table.width)
                  : Py_NewRef(Py_None);
done:
    give_back(views, 5);
    return answer;
}
