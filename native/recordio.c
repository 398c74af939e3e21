/* RecordIO-protobuf to rows, for clary.recordio.runs. */
#include "text.h"

#include "recordio_core.h"

/* recordio_rows(block, at, size, labels, borders, indices, values) -> (rows, end, kind, sparse, width, place, label_kind,
 * label_width): reads records of one kind from `at` on, of the first `size` bytes of a block. Labels and values are
 * arrays of 8 bytes a number, which get numbers of 4 bytes too, back to back; int64 borders and indices are those of
 * sparse rows. Where place is not 0, the rows are in the block, the first one there, at a constant distance. None where
 * the first record is unusual, wrong or cut, or the arrays cannot hold it. */
KERNEL(recordio_rows) {
    if (miscounted(count, 7))
        return NULL;
    Py_ssize_t at = PyLong_AsSsize_t(given[1]), size = PyLong_AsSsize_t(given[2]);
    PyObject *const arrays[] = {given[0], given[3], given[4], given[5], given[6]};
    Py_buffer views[5]; /* the block, labels, borders, indices, values */
    if (PyErr_Occurred() || take(arrays, views, 5, 4))
        return NULL;
    PyObject *answer = NULL;
    size_t most = (size_t)views[3].len / 8, borders = (size_t)views[2].len / 8;
    if (at < 0 || size < 0 || size > views[0].len || !borders || (size_t)views[4].len / 8 < most) {
        too_short();
        goto done;
    }
    RecordRows rows = {
        .block = {views[0].buf, (size_t)size},
        .most_rows = borders - 1,
        .most_values = most,
        .most_labels = (size_t)views[1].len / 8,
        .labels = views[1].buf,
        .borders = views[2].buf,
        .indices = views[3].buf,
        .values = views[4].buf,
    };
    PyThreadState *state = let_others_run(&views[0]);
    bool found = recordio_run(&rows, (size_t)at);
    go_on(state);
    const Form *form = &rows.form;
    long long width = form->sparse ? (long long)form->shape : (long long)form->count;
    long long place = form->place ? (long long)at + (long long)form->place : 0;
    answer = found ? Py_BuildValue("nniiLLin", (Py_ssize_t)rows.rows, (Py_ssize_t)rows.end, form->kind, form->sparse, width,
                                   place, form->label_kind, (Py_ssize_t)form->label_count)
                   : Py_NewRef(Py_None);
done:
    give_back(views, 5);
    return answer;
}
