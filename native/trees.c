/* Boosted trees, from the rows to what a model answers.
 *
 * A node asks whether a feature is below a threshold; a missing value, NaN, goes where the node says. Sums are of
 * float32, from the base margin on and tree by tree in their order, so that they have the bits of the XGBoost library's.
 *
 * A way through one tree is a chain of reads each of which waits for the one before. So LANES ways are gone side by
 * side: one row's through several trees, or several rows' through one tree. No step branches: the children of a node
 * lie side by side, and a leaf is its own next node.
 */
#include <math.h>

#include "kernels.h"

#define LANES 8
#define BLOCK 64 /* rows that meet a tree while it is in the nearest cache */
#define QUICK 8192 /* ways that are gone at most without letting other threads run */
#define NAME "clary.trees"

enum { INNER = 1, MISSING_LEFT = 2 };

/* What makes an answer of margins; the numbers are those of algorithms/xgboost_trees.py. */
enum { IDENTITY, SIGMOID, EXPONENTIAL, HINGE, SOFTMAX, CLASS, LINKS };

typedef struct {
    float at; /* threshold; of a leaf its value */
    uint32_t feature;
    uint32_t next; /* the left child, and behind it the right one; of a leaf itself */
    uint32_t kind;
} Node;

typedef struct {
    Py_ssize_t trees, width, groups;
    int link;
    float *base;     /* margins to begin with, one of each group */
    uint32_t *roots; /* up to a whole number of LANES */
    uint32_t *group; /* of each tree */
    Node *nodes;
} Forest;

static void fell(Forest *forest) {
    free(forest->base);
    free(forest->roots);
    free(forest->group);
    free(forest->nodes);
    free(forest);
}

static void forget(PyObject *capsule) { fell(PyCapsule_GetPointer(capsule, NAME)); }

/* The arrays of a model: for each tree its number of nodes, group and weight, for each node the rest. */
typedef struct {
    const int32_t *counts, *groups;
    const float *weights;
    const int32_t *left, *right, *features;
    const float *values;
    const uint8_t *missing_left;
} Arrays;

/* What a leaf adds to a margin. The library predicts each tree of a model with weights alone, from the base margin on,
 * and adds the weighted difference. */
static float worth(float value, const float *weights, Py_ssize_t tree, float base) {
    return weights ? ((base + value) - base) * weights[tree] : value;
}

/* Put a tree's nodes behind each other, children side by side, from `place` on; `queue` has room for a number for each.
 * Gives how many there are, 0 where the tree is none: every node is put once, or there are more than there may be. */
static Py_ssize_t plant(Forest *forest, const Arrays *of, Py_ssize_t tree, Py_ssize_t first, uint32_t place,
                        int32_t *queue) {
    const int32_t count = of->counts[tree];
    Py_ssize_t put = 1;
    queue[0] = 0;
    for (Py_ssize_t i = 0; i < put; i++) {
        Py_ssize_t from = first + queue[i];
        int32_t left = of->left[from], right = of->right[from], feature = of->features[from];
        Node *node = &forest->nodes[place + i];
        if (left == -1) {
            float base = forest->base[forest->group[tree]];
            *node = (Node){worth(of->values[from], of->weights, tree, base), 0, place + (uint32_t)i, 0};
            continue;
        }
        if (left < 0 || left >= count || right < 0 || right >= count || put + 2 > count || feature < 0 ||
            feature >= forest->width)
            return 0;
        uint32_t kind = of->missing_left[from] ? INNER | MISSING_LEFT : INNER;
        *node = (Node){of->values[from], (uint32_t)feature, place + (uint32_t)put, kind};
        queue[put++] = left;
        queue[put++] = right;
    }
    return put;
}

/* The margin that a base score of the model stands for. */
static float margin_of(float score, int link) {
    if (link == SIGMOID)
        return -logf(1.0f / score - 1.0f);
    return link == EXPONENTIAL ? logf(score) : score;
}

/* All trees; whether they are sound. */
static bool planted(Forest *forest, const Arrays *of, int32_t *queue) {
    Py_ssize_t first = 0;
    uint32_t place = 1; /* node 0 is a leaf for the lanes that are left over */
    forest->nodes[0] = (Node){0, 0, 0, 0};
    for (Py_ssize_t t = 0; t < forest->trees; t++) {
        if (of->groups[t] < 0 || of->groups[t] >= forest->groups)
            return false;
        forest->roots[t] = place;
        forest->group[t] = (uint32_t)of->groups[t];
        Py_ssize_t put = plant(forest, of, t, first, place, queue);
        if (put == 0)
            return false;
        place += (uint32_t)put;
        first += of->counts[t];
    }
    return true;
}

static Forest *empty_forest(Py_ssize_t trees, Py_ssize_t nodes, Py_ssize_t groups) {
    Forest *forest = calloc(1, sizeof *forest);
    if (!forest)
        return NULL;
    forest->trees = trees;
    forest->groups = groups;
    forest->base = calloc((size_t)groups, sizeof *forest->base);
    forest->roots = calloc((size_t)trees + LANES, sizeof *forest->roots);
    forest->group = calloc((size_t)trees + 1, sizeof *forest->group);
    forest->nodes = calloc((size_t)nodes + 1, sizeof *forest->nodes);
    if (forest->base && forest->roots && forest->group && forest->nodes)
        return forest;
    fell(forest);
    return NULL;
}

/* Whether a buffer begins where no number of so many bytes may. */
static bool askew(const Py_buffer *view, size_t each) { return (uintptr_t)view->buf % each; }

/* How many nodes there are in all; -1 where a tree has none, or the arrays are not as long. */
static Py_ssize_t nodes_of(const Py_buffer *views, Py_ssize_t trees) {
    enum { COUNTS, GROUPS, WEIGHTS, LEFT, RIGHT, FEATURES, VALUES, MISSING };
    for (int i = COUNTS; i < MISSING; i++)
        if (askew(&views[i], 4))
            return -1;
    const int32_t *counts = views[COUNTS].buf;
    Py_ssize_t nodes = 0;
    for (Py_ssize_t t = 0; t < trees; t++) {
        if (counts[t] < 1)
            return -1;
        nodes += counts[t];
    }
    bool whole = views[GROUPS].len >= 4 * trees && (views[WEIGHTS].len == 0 || views[WEIGHTS].len >= 4 * trees);
    for (int i = LEFT; i <= VALUES; i++)
        whole &= views[i].len >= 4 * nodes;
    return whole && views[MISSING].len >= nodes && nodes < INT32_MAX ? nodes : -1;
}

static Forest *read_forest(const Py_buffer *views, Py_ssize_t width, Py_ssize_t link) {
    enum { COUNTS, GROUPS, WEIGHTS, LEFT, RIGHT, FEATURES, VALUES, MISSING, BASES };
    Py_ssize_t trees = views[COUNTS].len / 4, nodes = nodes_of(views, trees), groups = views[BASES].len / 4;
    if (nodes < 0 || askew(&views[BASES], 4) || groups < 1 || width < 1 || width > INT32_MAX || link < 0 || link >= LINKS) {
        PyErr_SetString(PyExc_ValueError, "the arrays of the trees do not belong together");
        return NULL;
    }
    const Arrays of = {views[COUNTS].buf, views[GROUPS].buf, views[WEIGHTS].len ? views[WEIGHTS].buf : NULL,
                       views[LEFT].buf, views[RIGHT].buf, views[FEATURES].buf, views[VALUES].buf, views[MISSING].buf};
    Forest *forest = empty_forest(trees, nodes, groups);
    int32_t *queue = malloc(((size_t)nodes + 1) * sizeof *queue);
    if (!forest || !queue) {
        free(queue);
        if (forest)
            fell(forest);
        PyErr_NoMemory();
        return NULL;
    }
    forest->width = width;
    forest->link = (int)link;
    for (Py_ssize_t g = 0; g < groups; g++)
        forest->base[g] = margin_of(((const float *)views[BASES].buf)[g], (int)link);
    bool sound = planted(forest, &of, queue);
    free(queue);
    if (sound)
        return forest;
    fell(forest);
    PyErr_SetString(PyExc_ValueError, "a tree leads astray");
    return NULL;
}

/* trees_plant(counts, groups, weights, left, right, features, values, missing_left, bases, width, link) -> forest
 *
 * Numbers are int32 and float32, missing_left is of bytes; there may be no weights. */
KERNEL(trees_plant) {
    Py_buffer views[9];
    if (miscounted(count, 11))
        return NULL;
    Py_ssize_t width = PyLong_AsSsize_t(given[9]);
    Py_ssize_t link = PyLong_AsSsize_t(given[10]);
    if (PyErr_Occurred() || take(given, views, 9, 0))
        return NULL;
    Forest *forest = read_forest(views, width, link);
    give_back(views, 9);
    if (!forest)
        return NULL;
    PyObject *capsule = PyCapsule_New(forest, NAME, forget);
    if (!capsule)
        fell(forest);
    return capsule;
}

/* Go LANES ways to their ends. */
static inline void climb(const Node *nodes, uint32_t *places, const float *const *rows) {
    uint32_t moving;
    do {
        moving = 0;
        for (int i = 0; i < LANES; i++) {
            const Node *node = &nodes[places[i]];
            float value = rows[i][node->feature];
            uint32_t kind = node->kind, stays_left = (value != value) & (kind >> 1);
            uint32_t right = !(value < node->at) & !stays_left;
            places[i] = node->next + (right & kind);
            moving |= kind;
        }
    } while (moving & INNER);
}

/* The margins of one row. */
static inline void one_row(const Forest *forest, const float *row, float *out) {
    const float *rows[LANES];
    for (int i = 0; i < LANES; i++)
        rows[i] = row;
    memcpy(out, forest->base, (size_t)forest->groups * sizeof *out);
    for (Py_ssize_t t = 0; t < forest->trees; t += LANES) {
        uint32_t places[LANES];
        memcpy(places, forest->roots + t, sizeof places);
        climb(forest->nodes, places, rows);
        Py_ssize_t lanes = forest->trees - t < LANES ? forest->trees - t : LANES;
        for (Py_ssize_t i = 0; i < lanes; i++)
            out[forest->group[t + i]] += forest->nodes[places[i]].at;
    }
}

/* The margins of some rows, a whole number of LANES. */
static inline void many_rows(const Forest *forest, const float *first, Py_ssize_t n, float *out) {
    const Py_ssize_t groups = forest->groups;
    for (Py_ssize_t i = 0; i < n; i++)
        memcpy(out + i * groups, forest->base, (size_t)groups * sizeof *out);
    for (Py_ssize_t t = 0; t < forest->trees; t++) {
        for (Py_ssize_t start = 0; start < n; start += LANES) {
            const float *rows[LANES];
            uint32_t places[LANES];
            for (int i = 0; i < LANES; i++) {
                rows[i] = first + (start + i) * forest->width;
                places[i] = forest->roots[t];
            }
            climb(forest->nodes, places, rows);
            float *to = out + start * groups + forest->group[t];
            for (int i = 0; i < LANES; i++)
                to[i * groups] += forest->nodes[places[i]].at;
        }
    }
}

static void dense_margins(const Forest *forest, const float *rows, Py_ssize_t n, float *out) {
    Py_ssize_t whole = n - n % LANES;
    for (Py_ssize_t start = 0; start < whole; start += BLOCK) {
        Py_ssize_t some = whole - start < BLOCK ? whole - start : BLOCK;
        many_rows(forest, rows + start * forest->width, some, out + start * forest->groups);
    }
    for (Py_ssize_t i = whole; i < n; i++)
        one_row(forest, rows + i * forest->width, out + i * forest->groups);
}

/* Probabilities of the classes of one row, summed in double precision as the library does. */
static void softmax(float *row, Py_ssize_t classes) {
    float most = row[0];
    for (Py_ssize_t i = 1; i < classes; i++)
        most = fmaxf(row[i], most);
    double sum = 0;
    for (Py_ssize_t i = 0; i < classes; i++)
        sum += row[i] = expf(row[i] - most);
    for (Py_ssize_t i = 0; i < classes; i++)
        row[i] /= (float)sum;
}

static float largest(const float *row, Py_ssize_t classes) {
    Py_ssize_t best = 0;
    for (Py_ssize_t i = 1; i < classes; i++)
        if (row[i] > row[best])
            best = i;
    return (float)best;
}

/* The sigmoid in the library's own words: what it adds to the denominator changes no bit, its limit does. */
static float sigmoid(float margin) { return 1.0f / (expf(fminf(-margin, 88.7f)) + 1.0f); }

/* Make answers of margins in their place; a class is one number for a row. */
static void answer(const Forest *forest, float *out, Py_ssize_t n) {
    const Py_ssize_t groups = forest->groups, all = n * groups;
    switch (forest->link) {
    case SIGMOID:
        for (Py_ssize_t i = 0; i < all; i++)
            out[i] = sigmoid(out[i]);
        break;
    case EXPONENTIAL:
        for (Py_ssize_t i = 0; i < all; i++)
            out[i] = expf(out[i]);
        break;
    case HINGE:
        for (Py_ssize_t i = 0; i < all; i++)
            out[i] = out[i] > 0 ? 1.0f : 0.0f;
        break;
    case SOFTMAX:
        for (Py_ssize_t i = 0; i < n; i++)
            softmax(out + i * groups, groups);
        break;
    case CLASS:
        for (Py_ssize_t i = 0; i < n; i++)
            out[i] = largest(out + i * groups, groups);
        break;
    }
}

/* Whether a buffer does not hold so many numbers of 4 bytes. */
static bool beyond(const Py_buffer *view, Py_ssize_t n, Py_ssize_t each) {
    return n < 0 || n > view->len / 4 / each || askew(view, 4);
}

static PyObject *too_short_or_askew(void) {
    PyErr_SetString(PyExc_ValueError, "a buffer is too short, or does not begin where its numbers may");
    return NULL;
}

/* trees_dense(forest, n, margin, rows, out): rows of float32, shape (n, width), and room for n times groups. */
KERNEL(trees_dense) {
    Py_buffer views[2];
    if (miscounted(count, 5))
        return NULL;
    const Forest *forest = PyCapsule_GetPointer(given[0], NAME);
    Py_ssize_t n = forest ? PyLong_AsSsize_t(given[1]) : -1;
    int margin = PyObject_IsTrue(given[2]);
    if (PyErr_Occurred() || take(given + 3, views, 2, 1))
        return NULL;
    if (beyond(&views[0], n, forest->width) || beyond(&views[1], n, forest->groups)) {
        give_back(views, 2);
        return too_short_or_askew();
    }
    PyThreadState *others = n * forest->trees > QUICK ? PyEval_SaveThread() : NULL;
    dense_margins(forest, views[0].buf, n, views[1].buf);
    if (!margin)
        answer(forest, views[1].buf, n);
    if (others)
        PyEval_RestoreThread(others);
    give_back(views, 2);
    Py_RETURN_NONE;
}

/* The margins of sparse rows, each laid out in `row`, which is all NaN before and after. False where a row has a column
 * that there is not, or one twice. */
static bool sparse_margins(const Forest *forest, const int64_t *borders, const int64_t *columns, const float *values,
                           Py_ssize_t n, float *row, float *out) {
    for (Py_ssize_t i = 0; i < n; i++) {
        for (int64_t j = borders[i]; j < borders[i + 1]; j++) {
            if (columns[j] < 0 || columns[j] >= forest->width || row[columns[j]] == row[columns[j]])
                return false;
            row[columns[j]] = values[j];
        }
        one_row(forest, row, out + i * forest->groups);
        for (int64_t j = borders[i]; j < borders[i + 1]; j++)
            row[columns[j]] = NAN;
    }
    return true;
}

/* Whether the borders of n rows ascend, and end within so many values. */
static bool bordered(const int64_t *borders, Py_ssize_t n, Py_ssize_t values) {
    for (Py_ssize_t i = 0; i < n; i++)
        if (borders[i] > borders[i + 1])
            return false;
    return borders[0] >= 0 && borders[n] <= values;
}

/* trees_sparse(forest, n, borders, columns, values, out) -> whether the rows are such as the library takes too
 *
 * Borders and columns are int64, values float32; what a row does not hold is missing. */
KERNEL(trees_sparse) {
    Py_buffer views[4];
    if (miscounted(count, 6))
        return NULL;
    const Forest *forest = PyCapsule_GetPointer(given[0], NAME);
    Py_ssize_t n = forest ? PyLong_AsSsize_t(given[1]) : -1;
    if (PyErr_Occurred() || take(given + 2, views, 4, 1))
        return NULL;
    Py_ssize_t values = views[2].len / 4 < views[1].len / 8 ? views[2].len / 4 : views[1].len / 8;
    bool fit = !askew(&views[0], 8) && !askew(&views[1], 8) && !askew(&views[2], 4);
    if (!fit || n < 0 || n >= views[0].len / 8 || beyond(&views[3], n, forest->groups) ||
        !bordered(views[0].buf, n, values)) {
        give_back(views, 4);
        return too_short_or_askew();
    }
    bool taken = false, room;
    Py_BEGIN_ALLOW_THREADS
    float *row = malloc((size_t)forest->width * sizeof *row);
    room = row != NULL;
    if (room) {
        for (Py_ssize_t i = 0; i < forest->width; i++)
            row[i] = NAN;
        taken = sparse_margins(forest, views[0].buf, views[1].buf, views[2].buf, n, row, views[3].buf);
        answer(forest, views[3].buf, taken ? n : 0);
        free(row);
    }
    Py_END_ALLOW_THREADS
    give_back(views, 4);
    return room ? PyBool_FromLong(taken) : PyErr_NoMemory();
}
