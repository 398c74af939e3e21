/* What the kernels that read text share on their Python side. */
#ifndef CLARY_TEXT_H
#define CLARY_TEXT_H

#include "kernels.h"

/* Below this size, to let another thread have the interpreter, and to wait for it again, takes longer than the work. */
enum { ALONE = 1 << 16 };

static inline bool ends_a_line(const Py_buffer *block) {
    return block->len > 0 && ((const char *)block->buf)[block->len - 1] == '\n';
}

/* The delimiter, or an error: one that could be part of a number or end a line would lead past the block. */
static inline long as_delimiter(PyObject *given) {
    long delimiter = PyLong_AsLong(given);
    if (!PyErr_Occurred() && (delimiter < 0 || delimiter > 255 || delimiter == '\n' || delimiter == '\r' ||
                              (delimiter >= '0' && delimiter <= '9')))
        PyErr_SetString(PyExc_ValueError, "no delimiter");
    return delimiter;
}

static inline PyThreadState *let_others_run(const Py_buffer *block) {
    return block->len < ALONE ? NULL : PyEval_SaveThread();
}

static inline void go_on(PyThreadState *state) {
    if (state)
        PyEval_RestoreThread(state);
}

#endif
