/* The extension module clary._native: nothing but the kernels. */
#include "kernels.h"

#define FUNCTION(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

/* csv.c */
KERNEL(csv_shape);
KERNEL(csv_rows);

/* libsvm.c */
KERNEL(libsvm_shape);
KERNEL(libsvm_rows);

/* recordio.c */
KERNEL(recordio_rows);

/* linear.c */
KERNEL(csr_times);
KERNEL(csr_transposed_times);
KERNEL(csr_ordered);
KERNEL(csr_narrowed);
KERNEL(logistic);
KERNEL(logistic_step);
KERNEL(adam);

/* fm.c */
KERNEL(fm_forward);
KERNEL(fm_backward);

/* forest.c */
KERNEL(grow_forest);
KERNEL(score_forest);

/* trees.c */
KERNEL(trees_plant);
KERNEL(trees_dense);
KERNEL(trees_sparse);

/* kmeans.c */
KERNEL(kmeans_answers);
KERNEL(kmeans_assign);
KERNEL(kmeans_distances);

/* scatter.c */
KERNEL(columns_used);
KERNEL(columns_taken);
KERNEL(products_added);

/* replies.c */
KERNEL(replies);

static PyMethodDef functions[] = {
    /* csv.c */
    FUNCTION(csv_shape),
    FUNCTION(csv_rows),

    /* libsvm.c */
    FUNCTION(libsvm_shape),
    FUNCTION(libsvm_rows),

    /* recordio.c */
    FUNCTION(recordio_rows),

    /* linear.c */
    FUNCTION(csr_times),
    FUNCTION(csr_transposed_times),
    FUNCTION(csr_ordered),
    FUNCTION(csr_narrowed),
    FUNCTION(logistic),
    FUNCTION(logistic_step),
    FUNCTION(adam),

    /* fm.c */
    FUNCTION(fm_forward),
    FUNCTION(fm_backward),

    /* forest.c */
    FUNCTION(grow_forest),
    FUNCTION(score_forest),

    /* trees.c */
    FUNCTION(trees_plant),
    FUNCTION(trees_dense),
    FUNCTION(trees_sparse),

    /* kmeans.c */
    FUNCTION(kmeans_answers),
    FUNCTION(kmeans_assign),
    FUNCTION(kmeans_distances),

    /* scatter.c */
    FUNCTION(columns_used),
    FUNCTION(columns_taken),
    FUNCTION(products_added),

    /* replies.c */
    FUNCTION(replies),

    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "clary._native", "Compiled kernels.", 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
