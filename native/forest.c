/* Random cut trees: growing them, and how far outside them points lie.
 *
 * The papers are named in algorithms/forest.py, where the same is done in NumPy and where the arrays of a forest are
 * described. In all of this file a link that is not negative is the number of a node, and ~link that of a leaf.
 */
#include "kernels.h"

#include <float.h>
#include <math.h>

#define LANES 8 /* sums that are kept at once: their order, and so the result, is the same on every processor */

#define PART_OF_WIDE static inline __attribute__((always_inline)) /* before a WIDE function's versions are made */

/* Scoring.
 *
 * The points of a block go down a tree together. What has come to a node is a range of `order`, which the node's cut
 * parts in two. So a box is fetched once for many points, the points of a node can be worked on in any order, and no
 * branch depends on which way a point goes. A point's sum has the same parts in the same order in whatever block.
 */

#define BLOCK_BYTES (512 << 10) /* of points that go down together: more do not stay in a core's cache */
#define BLOCK_POINTS 2048
#define TOGETHER 64 /* points whose distances are worked out before they are used */
#define LINE 64     /* bytes of a line of the cache, at the first of which rows begin */

typedef struct {
    const int32_t *roots, *dimensions, *children, *masses;
    const float *values, *boxes, *points;
    const double *extents;
    Py_ssize_t trees, nodes, leaves, d;
    double size; /* points of a tree */
} Forest;

/* The points order[begin … end), which have come to a link. */
typedef struct {
    int32_t link, depth, begin, end;
} Arrival;

typedef struct {
    int32_t many;      /* points that there is room for */
    Py_ssize_t stride; /* of rows: their dimensions, if no few made a multiple of LANES by zeros */
    float *rows, *box;
    double *sums, *weights; /* the weight is the chance that no cut above has separated the point */
    int32_t *order, *spare;
    Arrival *waiting; /* none of them without points, so there are never more than points */
} Block;

/* How far a coordinate lies outside of a range; NaN where it is none. */
PART_OF_WIDE float beyond(float x, float low, float high) {
    float nearest = x > low ? x : low;
    nearest = nearest < high ? nearest : high;
    return fabsf(x - nearest);
}

/* The same in double precision, for a sum that is too much for float. */
static double far_outside(const float *row, const float *box, Py_ssize_t d) {
    double sum = 0;
    for (Py_ssize_t i = 0; i < d; i++) {
        double x = row[i], low = box[i], high = box[d + i];
        sum += x < low ? low - x : x > high ? x - high : 0;
    }
    return sum;
}

/* By how much the sides of a box of few dimensions would grow in all to hold a row. */
PART_OF_WIDE float few_outside(const float *row, const float *box, Py_ssize_t d) {
    float sum = beyond(row[0], box[0], box[d]);
    for (Py_ssize_t i = 1; i < d; i++)
        sum += beyond(row[i], box[i], box[d + i]);
    return sum;
}

/* The same for a multiple of LANES dimensions. */
PART_OF_WIDE void many_outside(
    const Block *block, const int32_t *order, int32_t many, const float *box, float *growths
) {
    Py_ssize_t stride = block->stride;
    const float *restrict low = box, *restrict high = box + stride;
    float lanes[TOGETHER][LANES];
    for (int32_t i = 0; i < many; i++) {
        const float *restrict row = block->rows + order[i] * stride;
        float sums[LANES] = {0};
        for (Py_ssize_t done = 0; done < stride; done += LANES)
            for (int j = 0; j < LANES; j++)
                sums[j] += beyond(row[done + j], low[done + j], high[done + j]);
        memcpy(lanes[i], sums, sizeof sums);
    }
    for (int32_t i = 0; i < many; i++) {
        const float *sums = lanes[i];
        growths[i] = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    }
}

static bool equal(const float *row, const float *point, Py_ssize_t d) {
    for (Py_ssize_t i = 0; i < d; i++)
        if (row[i] != point[i])
            return false;
    return true;
}

/* What the published visitor sets out with, for points that have come to a leaf. */
static void at_leaf(const Forest *forest, Block *block, Arrival at) {
    const float *point = forest->points + ~at.link * forest->d;
    double mass = forest->masses[~at.link];
    double other = 1 / (at.depth + 1.0), same = NAN;
    for (int32_t i = at.begin; i < at.end; i++) {
        int32_t p = block->order[i];
        bool seen = equal(block->rows + p * block->stride, point, forest->d);
        if (seen && isnan(same))
            same = (1 - mass / (2 * forest->size)) / (at.depth + log2(mass + 1));
        block->sums[p] += block->weights[p] * (seen ? same : other);
    }
}

/* A node's box, with its sides padded as the rows are. */
PART_OF_WIDE const float *padded(const Block *block, const float *box, Py_ssize_t d) {
    if (block->stride == d)
        return box;
    memcpy(block->box, box, d * sizeof(float));
    memcpy(block->box + block->stride, box + d, d * sizeof(float));
    return block->box;
}

/* A node that points are at, and how many of them have gone to each side. */
typedef struct {
    const float *box; /* as the forest has it */
    double extent, share;
    Py_ssize_t dimension;
    float value;
    int32_t left, right;
} Gate;

/* Score a point that is so far outside of a node's box, and send it to one side. */
PART_OF_WIDE void pass(const Forest *forest, Block *block, Gate *gate, int32_t p, float outside) {
    const float *row = block->rows + p * block->stride;
    double growth = outside == INFINITY ? far_outside(row, gate->box, forest->d) : outside;
    double weight = block->weights[p], stays = weight * (gate->extent / (gate->extent + growth));
    block->sums[p] += (weight - stays) * gate->share;
    block->weights[p] = stays;
    bool greater = row[gate->dimension] > gate->value;
    block->order[gate->left] = block->spare[gate->right] = p; /* of the two, one is written over */
    gate->right += greater;
    gate->left += !greater;
}

/* Score points at a node and part them; where those that go to the right begin. */
PART_OF_WIDE int32_t at_node(const Forest *forest, Block *block, Arrival at) {
    Py_ssize_t d = forest->d;
    Gate gate = {
        .box = forest->boxes + 2 * d * at.link, .extent = forest->extents[at.link], .share = 1 / (at.depth + 1.0),
        .dimension = forest->dimensions[at.link], .value = forest->values[at.link], .left = at.begin,
    };
    if (d < LANES) {
        for (int32_t i = at.begin; i < at.end; i++) {
            int32_t p = block->order[i];
            pass(forest, block, &gate, p, few_outside(block->rows + p * d, gate.box, d));
        }
    } else {
        const float *box = padded(block, gate.box, d);
        float growths[TOGETHER];
        for (int32_t from = at.begin; from < at.end; from += TOGETHER) {
            int32_t many = at.end - from < TOGETHER ? at.end - from : TOGETHER;
            many_outside(block, block->order + from, many, box, growths);
            for (int32_t i = 0; i < many; i++)
                pass(forest, block, &gate, block->order[from + i], growths[i]);
        }
    }
    memcpy(block->order + gate.left, block->spare, gate.right * sizeof(int32_t));
    return gate.left;
}

/* Whether a link leads from a node, or from above the roots, to a leaf or further down. */
static bool leads_down(const Forest *forest, int32_t link, int32_t from) {
    return link < 0 ? ~link < forest->leaves : link > from && link < forest->nodes;
}

/* Have the box of a link's node brought near, before it is known whether a point will come to it. */
PART_OF_WIDE void fetch(const Forest *forest, int32_t link) {
    Py_ssize_t floats = forest->d < 512 ? 2 * forest->d : 1024; /* of a wide box its beginning */
    for (Py_ssize_t i = 0; link >= 0 && i < floats; i += LINE / sizeof(float))
        __builtin_prefetch(forest->boxes + 2 * forest->d * link + i);
}

/* Send the first `count` points of a block down one tree; false where the arrays make no tree. */
PART_OF_WIDE bool descend(const Forest *forest, Block *block, int32_t root, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        block->order[i] = i;
        block->weights[i] = 1;
    }
    if (!leads_down(forest, root, -1))
        return false;
    int32_t many = 0;
    block->waiting[many++] = (Arrival){root, 0, 0, count};
    while (many) {
        Arrival at = block->waiting[--many];
        while (at.link >= 0) {
            int32_t dimension = forest->dimensions[at.link];
            const int32_t *children = forest->children + 2 * (Py_ssize_t)at.link;
            if (dimension < 0 || dimension >= forest->d || !leads_down(forest, children[0], at.link) ||
                !leads_down(forest, children[1], at.link))
                return false;
            fetch(forest, children[0]);
            fetch(forest, children[1]);
            int32_t middle = at_node(forest, block, at);
            at.depth++;
            bool some_left = middle > at.begin;
            if (some_left && middle < at.end)
                block->waiting[many++] = (Arrival){children[1], at.depth, middle, at.end};
            at.link = children[!some_left];
            at.end = some_left ? middle : at.end;
        }
        at_leaf(forest, block, at);
    }
    return true;
}

/* The mean over the trees of each point's score; false where the arrays make no forest. */
WIDE static bool mean_scores(const Forest *forest, Block *block, const float *rows, Py_ssize_t n, float *scores) {
    double scale = log2(forest->size + 1) / (double)forest->trees;
    for (Py_ssize_t start = 0; start < n; start += block->many) {
        int32_t count = n - start < block->many ? (int32_t)(n - start) : block->many;
        for (int32_t i = 0; i < count; i++)
            memcpy(block->rows + i * block->stride, rows + (start + i) * forest->d, forest->d * sizeof(float));
        memset(block->sums, 0, count * sizeof(double));
        for (Py_ssize_t t = 0; t < forest->trees; t++)
            if (!descend(forest, block, forest->roots[t], count))
                return false;
        for (int32_t i = 0; i < count; i++)
            scores[start + i] = (float)(block->sums[i] * scale);
    }
    return true;
}

/* Anomaly scores of some points; 0, -1 where memory is wanting, or -2 where the arrays make no forest. */
static int score_points(Forest *forest, const float *rows, Py_ssize_t n, float *scores) {
    Py_ssize_t d = forest->d, stride = d < LANES ? d : (d + LANES - 1) / LANES * LANES;
    Py_ssize_t room = BLOCK_BYTES / (4 * stride) + 1;
    int32_t many = (int32_t)(room < BLOCK_POINTS ? room : BLOCK_POINTS);
    if (many > n)
        many = n ? (int32_t)n : 1;
    size_t each = 2 * sizeof(double) + sizeof(Arrival) + 2 * sizeof(int32_t), floats = (many + 2) * stride;
    char *memory = calloc(many * each + LINE + floats * sizeof(float), 1); /* zeros, of which the padding stays */
    if (!memory)
        return -1;
    Block block = {.many = many, .stride = stride, .sums = (double *)memory};
    block.weights = block.sums + many;
    block.waiting = (Arrival *)(block.weights + many);
    block.order = (int32_t *)(block.waiting + many);
    block.spare = block.order + many;
    char *end = (char *)(block.spare + many);
    block.rows = (float *)(end + LINE - (uintptr_t)end % LINE);
    block.box = block.rows + many * stride;
    int64_t size = 0;
    for (Py_ssize_t i = 0; i < forest->leaves; i++)
        size += forest->masses[i];
    forest->size = (double)(size / forest->trees);
    bool sound = mean_scores(forest, &block, rows, n, scores);
    free(memory);
    return sound ? 0 : -2;
}

/* Growing.
 *
 * A tree's nodes are numbered in the order of their levels, and the random numbers of each have their place, so the
 * trees are those of the twin to the last bit. Each tree has room for as many nodes and leaves as its points may need.
 */

/* The points order[begin … end), and where the name of the node or leaf that they make is wanted. */
typedef struct {
    int32_t begin, end;
    int32_t *link;
} Bud;

/* One tree's part of the arrays, and what its growing needs besides. */
typedef struct {
    const float *sample;
    const double *chances;
    int32_t *root, *dimensions, *children, *masses, *counts;
    float *values, *boxes, *points;
    double *extents;
    Py_ssize_t d, size;
    float *rows, *box;
    int32_t *order, *spare;
    Bud *buds;
} Tree;

/* The least and greatest coordinates of some points. */
PART_OF_WIDE void enclose(const Tree *tree, Bud bud) {
    Py_ssize_t d = tree->d;
    float *restrict low = tree->box, *restrict high = tree->box + d;
    const float *first = tree->rows + tree->order[bud.begin] * d;
    memcpy(low, first, d * sizeof(float));
    memcpy(high, first, d * sizeof(float));
    for (int32_t i = bud.begin + 1; i < bud.end; i++) {
        const float *restrict row = tree->rows + tree->order[i] * d;
        for (Py_ssize_t j = 0; j < d; j++) {
            low[j] = row[j] < low[j] ? row[j] : low[j];
            high[j] = row[j] > high[j] ? row[j] : high[j];
        }
    }
}

/* Choose a dimension and a place in it, as the twin does; the sum of the box's sides. */
static double cut(const Tree *tree, const double *chances, int32_t *dimension, float *value) {
    Py_ssize_t d = tree->d, chosen = 0;
    const float *low = tree->box, *high = tree->box + d;
    double extent = 0, reached = (double)high[0] - low[0];
    for (Py_ssize_t i = 0; i < d; i++)
        extent += (double)high[i] - low[i];
    double chance = chances[0] * extent;
    while (reached <= chance && chosen < d - 1) {
        chosen++;
        reached += (double)high[chosen] - low[chosen];
    }
    float least = low[chosen], most = high[chosen];
    double place = least + chances[1] * ((double)most - least);
    float rounded = (float)place, last = nextafterf(most, least);
    if (rounded > place)
        rounded = nextafterf(rounded, least); /* down, so that no point changes sides */
    *dimension = (int32_t)chosen;
    *value = rounded < last ? rounded : last; /* both sides get a point */
    return extent;
}

/* Part some points by a cut; where those that are greater begin. */
static int32_t part(const Tree *tree, Bud bud, int32_t dimension, float value) {
    int32_t left = bud.begin, right = 0;
    for (int32_t i = bud.begin; i < bud.end; i++) {
        int32_t p = tree->order[i];
        bool greater = tree->rows[p * tree->d + dimension] > value;
        tree->order[left] = tree->spare[right] = p; /* of the two, one is written over */
        right += greater;
        left += !greater;
    }
    memcpy(tree->order + left, tree->spare, right * sizeof(int32_t));
    return left;
}

/* Copy the points, of which minus zero becomes zero; whether they are finite. */
PART_OF_WIDE bool take_in(const Tree *tree) {
    int odd = 0;
    for (Py_ssize_t i = 0; i < tree->size * tree->d; i++) {
        tree->rows[i] = tree->sample[i] + 0.0f;
        odd |= !(fabsf(tree->sample[i]) <= FLT_MAX);
    }
    return !odd;
}

/* Grow one tree; false where numbers are not finite, or a chance is none and has left one side without points. */
PART_OF_WIDE bool grow_tree(const Tree *tree) {
    Py_ssize_t d = tree->d;
    int32_t nodes = 0, leaves = 0, known = 0;
    if (!take_in(tree))
        return false;
    for (int32_t i = 0; i < tree->size; i++)
        tree->order[i] = i;
    tree->buds[known++] = (Bud){0, (int32_t)tree->size, tree->root};
    for (int32_t next = 0; next < known; next++) {
        Bud bud = tree->buds[next];
        enclose(tree, bud);
        if (!memcmp(tree->box, tree->box + d, d * sizeof(float))) {
            memcpy(tree->points + leaves * d, tree->box, d * sizeof(float));
            tree->masses[leaves] = bud.end - bud.begin;
            *bud.link = ~leaves++;
            continue;
        }
        Py_ssize_t node = nodes++;
        int32_t *children = tree->children + 2 * node;
        memcpy(tree->boxes + 2 * d * node, tree->box, 2 * d * sizeof(float));
        tree->extents[node] = cut(tree, tree->chances + 2 * node, &tree->dimensions[node], &tree->values[node]);
        int32_t middle = part(tree, bud, tree->dimensions[node], tree->values[node]);
        if (middle == bud.begin || middle == bud.end)
            return false;
        *bud.link = (int32_t)node;
        tree->buds[known++] = (Bud){bud.begin, middle, children};
        tree->buds[known++] = (Bud){middle, bud.end, children + 1};
    }
    tree->counts[0] = nodes;
    tree->counts[1] = leaves;
    return true;
}

/* Grow trees one after another, the first of which is given; false where there are numbers that are not finite. */
WIDE static bool grow_all(Tree tree, Py_ssize_t trees) {
    Py_ssize_t inner = tree.size - 1;
    for (Py_ssize_t t = 0; t < trees; t++) {
        if (!grow_tree(&tree))
            return false;
        tree.root++, tree.counts += 2;
        tree.sample += tree.size * tree.d, tree.points += tree.size * tree.d, tree.masses += tree.size;
        tree.dimensions += inner, tree.values += inner, tree.extents += inner;
        tree.chances += 2 * inner, tree.children += 2 * inner, tree.boxes += 2 * inner * tree.d;
    }
    return true;
}

/* Grow trees; 0, -1 where memory is wanting, or -2 where there are numbers that are not finite. */
static int grow_sample(Tree tree, Py_ssize_t trees) {
    size_t size = tree.size, floats = (size + 2) * tree.d;
    char *memory = malloc(2 * size * (sizeof(Bud) + sizeof(int32_t)) + floats * sizeof(float));
    if (!memory)
        return -1;
    tree.buds = (Bud *)memory;
    tree.order = (int32_t *)(tree.buds + 2 * size);
    tree.spare = tree.order + size;
    tree.rows = (float *)(tree.spare + size);
    tree.box = tree.rows + size * tree.d;
    bool sound = grow_all(tree, trees);
    free(memory);
    return sound ? 0 : -2;
}

/* What Python sees. */
#define MOST (1 << 24) /* dimensions, and points of a tree */

/* The number of things in a buffer, and the bytes of each. */
typedef struct {
    Py_ssize_t count, each;
} Extent;

/* Whether buffers are as long as this, and begin where such things may. */
static bool agree(const Py_buffer *views, const Extent *wanted, int many) {
    for (int i = 0; i < many; i++)
        if (views[i].len != wanted[i].count * wanted[i].each || (uintptr_t)views[i].buf % wanted[i].each)
            return false;
    return true;
}

/* What a kernel returns, by what its work has returned. */
static PyObject *outcome(int result, const char *unsound) {
    if (result == -1)
        return PyErr_NoMemory();
    if (!result)
        Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, result == -2 ? unsound : "the lengths of the arrays do not agree");
    return NULL;
}

/* score_forest(roots, dimensions, values, children, boxes, extents, points, masses, rows, scores, d): fill in the
 * scores of rows of d numbers. */
KERNEL(score_forest) {
    Py_buffer views[10];
    if (miscounted(count, 11))
        return NULL;
    Py_ssize_t d = PyLong_AsSsize_t(given[10]);
    if ((d == -1 && PyErr_Occurred()) || take(given, views, 10, 1))
        return NULL;
    Py_ssize_t trees = views[0].len / 4, nodes = views[1].len / 4, leaves = views[7].len / 4, n = views[9].len / 4;
    bool sane = d > 0 && d <= MOST && n <= PY_SSIZE_T_MAX / 4 / d && trees && leaves && nodes <= INT32_MAX &&
                leaves <= INT32_MAX;
    d = sane ? d : 0; /* nothing is too great to be multiplied */
    const Extent wanted[] = {{trees, 4}, {nodes, 4}, {nodes, 4}, {2 * nodes, 4}, {2 * nodes * d, 4},
                             {nodes, 8}, {leaves * d, 4}, {leaves, 4}, {n * d, 4}, {n, 4}};
    int result = -3;
    if (sane && agree(views, wanted, 10)) {
        Forest forest = {
            .roots = views[0].buf, .dimensions = views[1].buf, .values = views[2].buf, .children = views[3].buf,
            .boxes = views[4].buf, .extents = views[5].buf, .points = views[6].buf, .masses = views[7].buf,
            .trees = trees, .nodes = nodes, .leaves = leaves, .d = d,
        };
        Py_BEGIN_ALLOW_THREADS
        result = score_points(&forest, views[8].buf, n, views[9].buf);
        Py_END_ALLOW_THREADS
    }
    give_back(views, 10);
    return outcome(result, "the arrays make no forest");
}

/* grow_forest(sample, chances, roots, dimensions, values, children, boxes, extents, points, masses, counts, size, d):
 * fill in trees of `size` points, and how many nodes and leaves each has. */
KERNEL(grow_forest) {
    Py_buffer views[11];
    if (miscounted(count, 13))
        return NULL;
    Py_ssize_t size = PyLong_AsSsize_t(given[11]), d = PyLong_AsSsize_t(given[12]);
    if (((size == -1 || d == -1) && PyErr_Occurred()) || take(given, views, 11, 9))
        return NULL;
    Py_ssize_t trees = views[2].len / 4;
    bool sane = d > 0 && d <= MOST && size > 0 && size <= MOST && trees < INT32_MAX / size;
    int result = -3;
    if (sane) {
        Py_ssize_t nodes = trees * (size - 1), leaves = trees * size;
        const Extent wanted[] = {{leaves * d, 4}, {2 * nodes, 8}, {trees, 4}, {nodes, 4}, {nodes, 4}, {2 * nodes, 4},
                                 {2 * nodes * d, 4}, {nodes, 8}, {leaves * d, 4}, {leaves, 4}, {2 * trees, 4}};
        Tree tree = {
            .sample = views[0].buf, .chances = views[1].buf, .root = views[2].buf, .dimensions = views[3].buf,
            .values = views[4].buf, .children = views[5].buf, .boxes = views[6].buf, .extents = views[7].buf,
            .points = views[8].buf, .masses = views[9].buf, .counts = views[10].buf, .d = d, .size = size,
        };
        if (agree(views, wanted, 11)) {
            Py_BEGIN_ALLOW_THREADS
            result = grow_sample(tree, trees);
            Py_END_ALLOW_THREADS
        }
    }
    give_back(views, 11);
    return outcome(result, "the sample has numbers that are not finite");
}
