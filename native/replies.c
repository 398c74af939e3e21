/* The text of replies: float32 numbers as Python writes the doubles that they widen to.
 *
 * Python writes the fewest digits that are read as the same double, of those the nearest. With 24 bits of significand
 * all that is exact in integers of 128 bits, from 1e-27 to 1e16; whoever has other numbers, NaN too, is told so. That a
 * decimal of 15 digits is found by rounding, whatever shorter ones there are, is from
 *
 * D. Matula: In-and-out conversions, CACM 11, 1968.
 */
#include "kernels.h"

#define LONGEST 24 /* characters of a number */
#define DECIMALS 15 /* after the point, in JSON Lines */
#define POWERS 44 /* of 5, that are needed */
#define UNLOCKED 4096 /* numbers from which other threads run meanwhile */

#ifdef __SIZEOF_INT128__

__extension__ typedef unsigned __int128 Wide;

/* A number is digits * 10^exponent. */
typedef struct {
    uint64_t digits;
    int exponent;
} Decimal;

/* A positive number in units of the 17th digit: whole + rest / 2^shift, and how far from it decimals may lie below and
 * above, in units of 2^-shift. */
typedef struct {
    uint64_t whole;
    Wide rest, below, above;
    int shift;
} Scaled;

/* significand * 2^exponent * 10^tens, where the significand has 24 bits. */
static inline Scaled scaled(uint32_t significand, int exponent, int tens, const Wide *fives) {
    Wide product = significand * fives[tens], width = fives[tens];
    int shift = -(exponent + tens);
    if (shift < 0) {
        product <<= -shift;
        width <<= -shift;
        shift = 0;
    }
    uint64_t whole = (uint64_t)(product >> shift);
    /* half the distance to the next double; below a power of two they lie closer */
    Wide above = width >> 30, below = significand == 1u << 23 ? width >> 31 : above;
    return (Scaled){whole, product - ((Wide)whole << shift), below, above, shift};
}

/* The nearest decimal of 17 digits less those that `unit` takes away; whether it is read as the same double. */
static inline bool rounded(const Scaled *x, uint64_t unit, uint64_t *found) {
    uint64_t low = x->whole / unit;
    Wide under = ((Wide)(x->whole - low * unit) << x->shift) + x->rest, over = ((Wide)unit << x->shift) - under;
    bool down = under <= x->below, up = over <= x->above;
    if (down && up)
        up = over < under || (over == under && (low & 1));
    *found = low + up;
    return down || up;
}

/* The fewest digits that tell a float's double; false where it is out of range. `bits` has no sign. */
static inline bool shortest(uint32_t bits, const Wide *fives, Decimal *found) {
    int power = (int)(bits >> 23) - 127; /* of two, the largest not above the number */
    if (power < -89 || power > 53)
        return false;
    uint32_t significand = (bits & 0x7fffff) | 0x800000;
    int tens = 16 - (power * 1233 >> 12); /* or one less */
    if (tens >= POWERS)
        return false;
    Scaled x = scaled(significand, power - 23, tens, fives);
    if (x.whole >= 100000000000000000u)
        x = scaled(significand, power - 23, --tens, fives);
    if (tens < 1)
        return false;
    int left_out = rounded(&x, 100, &found->digits) ? 2 : rounded(&x, 10, &found->digits) ? 1 : 0;
    if (left_out == 0)
        rounded(&x, 1, &found->digits);
    found->exponent = left_out - tens;
    while (found->digits % 10 == 0) {
        found->digits /= 10;
        found->exponent++;
    }
    return true;
}

static inline char *zeros(char *out, int count) {
    for (int i = 0; i < count; i++)
        *out++ = '0';
    return out;
}

static inline char *copied(char *out, const char *text, int count) {
    memcpy(out, text, (size_t)count);
    return out + count;
}

/* With a point and no exponent, `most` digits behind it at most, the rest cut off. */
static inline char *write_fixed(char *out, const char *digits, int count, int point, int most) {
    if (point >= count) {
        out = zeros(copied(out, digits, count), point - count);
        return copied(out, ".0", 2);
    }
    char *start = point > 0 ? copied(out, digits, point) : copied(out, "0", 1);
    int nothing = point < 0 ? -point : 0, from = point > 0 ? point : 0;
    *start++ = '.';
    char *end = zeros(start, nothing < most ? nothing : most);
    int room = most - (int)(end - start), rest = count - from;
    end = copied(end, digits + from, rest < room ? rest : room);
    while (end > start + 1 && end[-1] == '0')
        end--;
    return end > start ? end : copied(end, "0", 1);
}

static inline char *write_power(char *out, const char *digits, int count, int point) {
    *out++ = digits[0];
    if (count > 1) {
        *out++ = '.';
        out = copied(out, digits + 1, count - 1);
    }
    int power = 1 - point; /* such numbers are small */
    out = copied(out, "e-", 2);
    *out++ = (char)('0' + power / 10);
    *out++ = (char)('0' + power % 10);
    return out;
}

/* A number as JSON has it, or as JSON Lines (`cut`); NULL where it is out of range. */
static inline char *write_number(char *out, float number, bool cut, const Wide *fives) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    if (bits >> 31)
        *out++ = '-';
    bits &= 0x7fffffff;
    if (bits == 0)
        return copied(out, "0.0", 3);
    Decimal decimal;
    if (!shortest(bits, fives, &decimal))
        return NULL;
    char digits[20];
    int at = sizeof digits;
    for (uint64_t rest = decimal.digits; rest; rest /= 10)
        digits[--at] = (char)('0' + rest % 10);
    int count = (int)sizeof digits - at, point = count + decimal.exponent;
    if (cut)
        return write_fixed(out, digits + at, count, point, DECIMALS);
    if (point > -4)
        return write_fixed(out, digits + at, count, point, LONGEST);
    return write_power(out, digits + at, count, point);
}

/* A number that has no point; NULL where it is not whole, or so large that a float is no longer sure to hold it. */
static inline char *write_whole(char *out, float number) {
    if (!(number > -16777216.0f && number < 16777216.0f) || number != (float)(int32_t)number)
        return NULL;
    int32_t rest = (int32_t)number;
    char digits[8];
    int at = sizeof digits;
    if (rest < 0) {
        *out++ = '-';
        rest = -rest;
    }
    do
        digits[--at] = (char)('0' + rest % 10);
    while (rest /= 10);
    return copied(out, digits + at, (int)sizeof digits - at);
}

/* All rows; where the text ends, NULL where a number is out of range. */
static char *write_rows(char *out, const float *numbers, Py_ssize_t rows, Py_ssize_t columns, const char *text,
                        const int64_t *ends, const uint8_t *whole, bool cut) {
    Wide fives[POWERS] = {1};
    for (int i = 1; i < POWERS; i++)
        fives[i] = 5 * fives[i - 1];
    for (Py_ssize_t row = 0; row < rows; row++) {
        int64_t start = 0;
        for (Py_ssize_t i = 0; i < columns; i++) {
            out = copied(out, text + start, (int)(ends[i] - start));
            start = ends[i];
            out = whole[i] ? write_whole(out, *numbers) : write_number(out, *numbers, cut, fives);
            if (!out)
                return NULL;
            numbers++;
        }
        out = copied(out, text + start, (int)(ends[columns] - start));
    }
    return out;
}

#else

static char *write_rows(char *out, const float *numbers, Py_ssize_t rows, Py_ssize_t columns, const char *text,
                        const int64_t *ends, const uint8_t *whole, bool cut) {
    return NULL;
}

#endif

/* Whether the pieces of a row's text lie within each other's limits. */
static bool in_pieces(const int64_t *ends, Py_ssize_t columns, Py_ssize_t size) {
    int64_t start = 0;
    for (Py_ssize_t i = 0; i <= columns; i++) {
        if (ends[i] < start)
            return false;
        start = ends[i];
    }
    return start <= size && size <= INT32_MAX;
}

/* replies(rows, cut, text, ends, whole, numbers, out) -> bytes written, or -1
 *
 * Before each number of a row, and after the last, stands a piece of text; `ends` says where each piece ends, int64, and
 * `whole` which numbers have no point, a byte each. -1 is for numbers that are to be written by somebody else. */
KERNEL(replies) {
    enum { TEXT, ENDS, WHOLE, NUMBERS, OUT, ALL };
    Py_buffer views[ALL];
    if (miscounted(count, 2 + ALL))
        return NULL;
    Py_ssize_t rows = PyLong_AsSsize_t(given[0]);
    int cut = PyObject_IsTrue(given[1]);
    if (PyErr_Occurred() || take(given + 2, views, ALL, 1))
        return NULL;
    Py_ssize_t columns = views[WHOLE].len, each = views[TEXT].len + LONGEST * columns;
    if (rows < 0 || columns < 1 || views[ENDS].len / 8 <= columns ||
        !in_pieces(views[ENDS].buf, columns, views[TEXT].len) || rows > views[NUMBERS].len / 4 / columns ||
        rows > views[OUT].len / each) {
        give_back(views, ALL);
        return too_short();
    }
    PyThreadState *others = rows > UNLOCKED / columns ? PyEval_SaveThread() : NULL;
    char *out = views[OUT].buf;
    char *end = write_rows(out, views[NUMBERS].buf, rows, columns, views[TEXT].buf, views[ENDS].buf, views[WHOLE].buf,
                           cut);
    if (others)
        PyEval_RestoreThread(others);
    Py_ssize_t written = end ? end - out : -1;
    give_back(views, ALL);
    return PyLong_FromSsize_t(written);
}
