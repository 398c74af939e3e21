/* What every kernel needs: Python's limited API, the reading of arguments, and functions in several versions.
 *
 * A kernel gets numbers, and arrays or bytes as buffers. Its Python side, which stands beside the NumPy twin, has made
 * sure of types and shapes; the kernel itself makes sure that what it reads and writes lies inside the buffers.
 */
#ifndef CLARY_KERNELS_H
#define CLARY_KERNELS_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000 /* the first that has buffers */
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A function compiled for wider vectors too, of which the loader takes the widest that the processor has. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(CLARY_SANITIZED)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

#define KERNEL(name) PyObject *name(PyObject *module, PyObject *const *given, Py_ssize_t count)

/* Arguments. Each of these leaves a Python error behind where an argument is wrong. */

/* Whether the number of arguments is another than the kernel's own. */
static inline bool miscounted(Py_ssize_t count, Py_ssize_t wanted) {
    if (count != wanted)
        PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", wanted, count);
    return count != wanted;
}

/* The contiguous buffers of the first `many` arguments, the last `written` of them to be written to; whether there was
 * an error. */
static inline bool take(PyObject *const *given, Py_buffer *views, int many, int written) {
    for (int i = 0; i < many; i++) {
        int flags = PyBUF_C_CONTIGUOUS | (i >= many - written ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(given[i], &views[i], flags) < 0) {
            while (i-- > 0)
                PyBuffer_Release(&views[i]);
            return true;
        }
    }
    return false;
}

static inline void give_back(Py_buffer *views, int many) {
    for (int i = 0; i < many; i++)
        PyBuffer_Release(&views[i]);
}

/* An error for a buffer that is shorter than what is to be read or written there. */
static inline PyObject *too_short(void) {
    PyErr_SetString(PyExc_ValueError, "a buffer is too short");
    return NULL;
}

#endif
