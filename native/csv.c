/* CSV to float32, for clary.recordio.csv: first its shape, then its cells into arrays of that shape. */
#include "text.h"

#include "csv_core.h"

/* csv_shape(block, delimiter) -> (rows, width): the most rows that the block can have, and the width of the first; 0
 * where there is none. None where the block does not end with a newline. */
KERNEL(csv_shape) {
    Py_buffer block;
    if (miscounted(count, 2))
        return NULL;
    long delimiter = as_delimiter(given[1]);
    if (PyErr_Occurred() || take(given, &block, 1, 0))
        return NULL;
    PyObject *answer = NULL;
    if (ends_a_line(&block)) {
        CsvShape shape = csv_shape_of(block.buf, (size_t)block.len, (uint8_t)delimiter);
        answer = Py_BuildValue("nn", (Py_ssize_t)shape.rows, (Py_ssize_t)shape.width);
    } else {
        answer = Py_NewRef(Py_None);
    }
    give_back(&block, 1);
    return answer;
}

WIDE static ptrdiff_t parse(const uint8_t *text, size_t size, uint8_t delimiter, const CsvTable *table) {
    return csv_parse(text, size, delimiter, table);
}

/* csv_rows(block, labels, features, delimiter, width, label_size) -> rows: reads rows of `width` cells, of which the
 * first label_size go to labels, the others to features, both float32. None where the block has anything unusual, or
 * does not end with a newline, or has more rows than features has. */
KERNEL(csv_rows) {
    Py_buffer views[3]; /* the block, labels, features */
    if (miscounted(count, 6))
        return NULL;
    long delimiter = as_delimiter(given[3]);
    Py_ssize_t width = PyLong_AsSsize_t(given[4]), labels = PyLong_AsSsize_t(given[5]);
    if (PyErr_Occurred() || take(given, views, 3, 2))
        return NULL;
    PyObject *answer = NULL;
    Py_ssize_t item = (Py_ssize_t)sizeof(float);
    if (labels < 0 || labels >= width) {
        PyErr_SetString(PyExc_ValueError, "labels leave no features");
        goto done;
    }
    Py_ssize_t rows = views[2].len / item / (width - labels);
    if (labels && views[1].len / item / labels < rows) {
        too_short();
        goto done;
    }
    ptrdiff_t found = -1;
    if (ends_a_line(&views[0])) {
        const CsvTable table = {(size_t)rows, (size_t)width, (size_t)labels, views[1].buf, views[2].buf};
        PyThreadState *state = let_others_run(&views[0]);
        found = parse(views[0].buf, (size_t)views[0].len, (uint8_t)delimiter, &table);
        go_on(state);
    }
    answer = found < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(found);
done:
    give_back(views, 3);
    return answer;
}
