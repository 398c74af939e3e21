/* Sums of outer products: dense rows in the columns where any of them has a value, and the sums put back in their places.
 *
 * All results are NumPy's to the bit: numbers are copied, or added in the order in which it adds them.
 */
#include "sparse.h"

WIDE static void mark(const float *rows, int64_t n, int64_t d, uint8_t *used) {
    for (int64_t i = 0; i < n; i++) {
        const float *restrict row = rows + i * d;
        uint8_t *restrict flags = used;
        for (int64_t j = 0; j < d; j++)
            flags[j] |= row[j] != 0;
    }
}

/* Copy the numbers in some columns; those of columns that follow one another, up to where a run ends, together. */
static void copy(const float *rows, const int64_t *columns, int64_t n, int64_t d, int64_t many, int64_t *ends, float *out) {
    int64_t runs = 0;
    for (int64_t j = 0; j < many; j++)
        if (j + 1 == many || columns[j + 1] != columns[j] + 1)
            ends[runs++] = j + 1;
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0, j = 0; r < runs; j = ends[r++])
            memcpy(out + i * many + j, rows + i * d + columns[j], (size_t)(ends[r] - j) * sizeof *out);
}

WIDE static void spread(const float *part, const int64_t *columns, int64_t many, int64_t d, double *products) {
    for (int64_t i = 0; i < many; i++) {
        double *restrict row = products + columns[i] * d;
        for (int64_t j = 0; j < many; j++)
            row[columns[j]] += part[i * many + j];
    }
}

/* Whether all columns are among so many. */
static bool among(const Py_buffer *view, int64_t d) {
    const int64_t *columns = view->buf;
    bool good = true;
    for (int64_t j = 0; j < view->len / 8; j++)
        good &= (uint64_t)columns[j] < (uint64_t)d;
    return good;
}

/* columns_used(rows (n × d), used (d bytes)): mark the columns where any row has a value. */
KERNEL(columns_used) {
    Py_buffer views[2];
    if (miscounted(count, 2) || take(given, views, 2, 1))
        return NULL;
    int64_t d = views[1].len, n = whole_rows(&views[0], d);
    PyObject *result = NULL;
    if (n < 0)
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        mark(views[0].buf, n, d, views[1].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 2);
    return result;
}

/* columns_taken(rows (n × d), columns (c), out (n × c), d): the numbers in some columns. */
KERNEL(columns_taken) {
    Py_buffer views[3];
    if (miscounted(count, 4))
        return NULL;
    long long d = PyLong_AsLongLong(given[3]);
    if ((d == -1 && PyErr_Occurred()) || take(given, views, 3, 1))
        return NULL;
    int64_t n = whole_rows(&views[0], d), many = views[1].len / 8;
    int64_t *ends = malloc((size_t)many * sizeof *ends + 1);
    PyObject *result = NULL;
    if (ends == NULL)
        PyErr_NoMemory();
    else if (n < 0 || !among(&views[1], d))
        outside();
    else if (many > 0 && views[2].len / 4 / many < n)
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        copy(views[0].buf, views[1].buf, n, d, many, ends, views[2].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    free(ends);
    give_back(views, 3);
    return result;
}

/* products_added(part (c × c), columns (c), products (d × d, float64), d): add to these rows and columns. */
KERNEL(products_added) {
    Py_buffer views[3];
    if (miscounted(count, 4))
        return NULL;
    long long d = PyLong_AsLongLong(given[3]);
    if ((d == -1 && PyErr_Occurred()) || take(given, views, 3, 1))
        return NULL;
    int64_t many = views[1].len / 8;
    PyObject *result = NULL;
    if (d < 1 || !among(&views[1], d))
        outside();
    else if (views[2].len / 8 / d < d || (many > 0 && views[0].len / 4 / many < many))
        too_short();
    else {
        Py_BEGIN_ALLOW_THREADS;
        spread(views[0].buf, views[1].buf, many, d, views[2].buf);
        Py_END_ALLOW_THREADS;
        result = Py_NewRef(Py_None);
    }
    give_back(views, 3);
    return result;
}
