/* What the kernels that read text share on their Python side. */
#ifndef CLARY_TEXT_H
#define CLARY_TEXT_H

#include "kernels.h"

/* Below this size, to let another thread have the interpreter, and to wait for it again, takes longer than the work. */
enum { ALONE = 1 << 16 };

static inline bool ends_a_line(const Py_buffer *block) {
    return block->len > 0 && ((const char *)block->buf)[block->len - 1] == '\n';
}

static inline PyThreadState *let_others_run(const Py_buffer *block) {
    return block->len < ALONE ? NULL : PyEval_SaveThread();
}

static inline void go_on(PyThreadState *state) {
    if (state)
        PyEval_RestoreThread(state);
}

#endif
