/* Numbers as people write them, to the float32 that is nearest: the same that strtof gives.
 *
 * Text is looked at 64 bytes at a time for its marks, the bytes that are no digits. Between two marks stand up to 18
 * digits, which are one integer m; a number is m × 10^e. In double that product has an error of at most MARGIN units
 * of its last place, so rounding it to float is right unless it lies that near to the middle between two floats.
 * Those few are left to strtof.
 *
 * Nothing here needs Python, so that it can be fuzzed without.
 */
#ifndef CLARY_DECIMAL_H
#define CLARY_DECIMAL_H

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What has to be compiled anew inside each version of the function that calls it. */
#define INLINE static inline __attribute__((always_inline))

enum { MOST_DIGITS = 18, REACH = 8, MARGIN = 4, LONGEST_COPY = 255, LARGEST_POWER = 38, SMALLEST_POWER = -65 };

/* Literals are rounded correctly, up to 10^22 they are exact. A number with more than 10^38 is infinite, one with
 * 18 digits × 10^-65 zero. */
static const double POWERS[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33,
    1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45, 1e46, 1e47, 1e48, 1e49, 1e50,
    1e51, 1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59, 1e60, 1e61, 1e62, 1e63, 1e64, 1e65,
};
/* To multiply takes a fourth of the time of to divide. */
static const double FRACTIONS[] = {
    1e0,   1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,  1e-8,  1e-9,
    1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18,
};
static const uint64_t WHOLE_POWERS[] = {
    1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u, 1000000000u, 10000000000u,
    100000000000u, 1000000000000u, 10000000000000u, 100000000000000u, 1000000000000000u, 10000000000000000u,
    100000000000000000u, 1000000000000000000u, 10000000000000000000u,
};

/* Marks. */

/* A text that ends with a newline, and where its next marks are. */
typedef struct {
    const uint8_t *text;
    size_t size;
    size_t base;   /* of the 64 bytes that are being looked at */
    uint64_t mask; /* which of them are marks that have not been given out */
} Marks;

INLINE uint64_t little_endian(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Which of 64 bytes are no digits. */
INLINE uint64_t marks_of(const uint8_t *at) {
    uint64_t mask = 0;
#ifdef __SSE2__
    for (int i = 0; i < 4; i++) {
        __m128i apart = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(at + 16 * i)), _mm_set1_epi8('0'));
        __m128i digit = _mm_cmpeq_epi8(_mm_min_epu8(apart, _mm_set1_epi8(9)), apart);
        mask |= (uint64_t)(uint16_t)~_mm_movemask_epi8(digit) << (16 * i);
    }
#else
    const uint64_t low = 0x7F7F7F7F7F7F7F7Fu, zeros = 0x3030303030303030u, beyond = 0x7676767676767676u;
    for (int i = 0; i < 8; i++) {
        uint64_t word = little_endian(at + 8 * i) ^ zeros;            /* digits become 0 to 9 */
        uint64_t high = (((word & low) + beyond) | word) & ~low;      /* 0x80 in every byte that is no digit */
        mask |= ((high >> 7) * 0x0102040810204080u >> 56) << (8 * i); /* one bit of each */
    }
#endif
    return mask;
}

/* The same of the last bytes of a text, less than 64. */
static __attribute__((noinline)) uint64_t last_marks_of(const uint8_t *at, size_t left) {
    uint8_t last[64];
    memset(last, '0', sizeof last);
    memcpy(last, at, left);
    return marks_of(last);
}

INLINE void look(Marks *marks) {
    const uint8_t *at = marks->text + marks->base;
    size_t left = marks->size - marks->base;
    marks->mask = left >= 64 ? marks_of(at) : last_marks_of(at, left);
}

INLINE Marks marks_in(const uint8_t *text, size_t size) {
    Marks marks = {text, size, 0, 0};
    look(&marks);
    return marks;
}

/* Where the next mark is; there is always one, as nobody asks beyond the newline at the end. */
INLINE size_t next_mark(Marks *marks) {
    while (!marks->mask) {
        marks->base += 64;
        look(marks);
    }
    size_t at = marks->base + (size_t)__builtin_ctzll(marks->mask);
    marks->mask &= marks->mask - 1;
    return at;
}

/* Digits. */

/* The last so many of eight bytes, without what makes digits of them. */
static const uint64_t LAST[] = {
    0,
    0x0F00000000000000u,
    0x0F0F000000000000u,
    0x0F0F0F0000000000u,
    0x0F0F0F0F00000000u,
    0x0F0F0F0F0F000000u,
    0x0F0F0F0F0F0F0000u,
    0x0F0F0F0F0F0F0F00u,
    0x0F0F0F0F0F0F0F0Fu,
};

/* The integer of eight digits: of pairs, then of fours, then of all. */
INLINE uint64_t integer(uint64_t word) {
    word = (word * 10 + (word >> 8)) & 0x00FF00FF00FF00FFu;
    word = (word * 100 + (word >> 16)) & 0x0000FFFF0000FFFFu;
    return (word * 10000 + (word >> 32)) & 0xFFFFFFFFu;
}

/* The integer of up to four digits before `stop`. Here and below, some bytes before the first digit are read too, which
 * count for nothing. */
INLINE float short_integer(const uint8_t *stop, size_t count) {
    uint32_t word = (uint32_t)((little_endian(stop - 8) & LAST[count]) >> 32);
    word = word * 10 + (word >> 8);
    return (float)(int32_t)((word & 0xFF) * 100 + (word >> 16 & 0xFF));
}

/* The integer of up to eight digits before `stop`; a point, which is left out, stands before the last `after`. */
INLINE uint64_t part_of_integer(const uint8_t *stop, size_t count, size_t after) {
    return integer((little_endian(stop - 8) & LAST[after]) | (little_endian(stop - 9) & (LAST[count] ^ LAST[after])));
}

/* The same of up to 18 digits. Without a point, all of them are after it. */
INLINE uint64_t long_integer(const uint8_t *stop, size_t count, size_t after) {
    uint64_t total = 0, power = 1;
    for (; count > 8; count -= 8, power *= 100000000) {
        if (after >= 8) {
            total += power * integer(little_endian(stop - 8) & LAST[8]);
            after -= 8;
            stop -= 8;
        } else {
            total += power * part_of_integer(stop, 8, after);
            after = count - 8;
            stop -= 9;
        }
    }
    return total + power * part_of_integer(stop, count, after);
}

/* Numbers. */

/* Whether a double, whose error is at most MARGIN units of its last place, may lie on either side of the middle
 * between two floats. Of its mantissa, 29 bits are those that float has not. */
INLINE bool near_middle(double number) {
    uint64_t bits;
    memcpy(&bits, &number, 8);
    return (bits & 0x1FFFFFFFu) - (0x10000000u - MARGIN) <= 2 * MARGIN;
}

/* Whether m / 10^part, which lies near the middle between two floats, may have been rounded to there. If m and 10^part
 * are exact, m / 10^part = a × 2^b in double but not in truth, then |m × 2^-b - a × 10^part| is a fraction that is not
 * 0 but less than a × 10^part / 2^53; as a has 25 bits, 5^part > 2^28. */
INLINE bool inexact(uint64_t m, size_t part) { return part > 12 || m >> 53; }

/* The float of ±digits.digits, at least one and at most 18 of them, from `start` to a mark for which `ends` is set;
 * false where something else stands there. Before, *stop is the first mark from `start` on; after, it is one that is no
 * farther than the first for which `ends` is set. A newline is among those, a point or a minus is not. */
INLINE bool plain_number(Marks *marks, const uint8_t *ends, size_t start, size_t *stop, float *number) {
    const uint8_t *text = marks->text;
    size_t count = *stop - start, after;
    if (start < REACH)
        return false;
    bool negative = text[start] == '-';
    if (negative) {
        start++;
        *stop = next_mark(marks);
    }
    count = after = *stop - start;
    bool pointed = text[*stop] == '.';
    if (pointed) {
        *stop = next_mark(marks);
        after = *stop - start - count - 1;
        count += after;
    }
    if (!ends[text[*stop]] || count - 1 >= MOST_DIGITS)
        return false;
    int64_t m = (int64_t)long_integer(text + *stop, count, after);
    if (pointed) {
        double product = (double)m * FRACTIONS[after];
        if (near_middle(product))
            return false;
        *number = (float)product;
    } else {
        *number = (float)m;
    }
    if (negative)
        *number = -*number;
    return true;
}

/* Whether some bytes are these letters, which are small, be they large or small. */
INLINE bool spells(const uint8_t *at, const uint8_t *stop, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(stop - at) != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if ((at[i] | 0x20) != word[i])
            return false;
    return true;
}

/* The locale whose numbers have points, made once and kept, whichever thread is first; 0 where there is no memory. */
static locale_t plain_locale(void) {
    static _Atomic(locale_t) kept;
    locale_t found = atomic_load(&kept);
    if (found)
        return found;
    locale_t made = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (made && !atomic_compare_exchange_strong(&kept, &found, made)) {
        freelocale(made);
        return found;
    }
    return made;
}

/* What strtof gives for a number, or false where that cannot be told. */
static bool by_strtof(const uint8_t *at, const uint8_t *stop, float *number) {
    char copy[LONGEST_COPY + 1];
    size_t size = (size_t)(stop - at);
    locale_t plain = size <= LONGEST_COPY ? plain_locale() : (locale_t)0;
    if (!plain)
        return false;
    memcpy(copy, at, size);
    copy[size] = 0;
    *number = strtof_l(copy, NULL, plain);
    return true;
}

/* The exponent that stands between two places, at most a million millions; false where none does. */
INLINE bool exponent(const uint8_t *at, const uint8_t *stop, int64_t *power) {
    bool negative = at < stop && *at == '-';
    if (at < stop && (*at == '-' || *at == '+'))
        at++;
    if (at == stop)
        return false;
    *power = 0;
    for (; at < stop; at++) {
        if (*at < '0' || *at > '9')
            return false;
        if (*power < 100000000000)
            *power = *power * 10 + (*at - '0');
    }
    if (negative)
        *power = -*power;
    return true;
}

/* The float of any number, with or without sign, point and exponent, or infinite, or nan; false where something else
 * stands between the two places, or where the number is too long for what it would take. */
static __attribute__((noinline)) bool any_number(const uint8_t *start, const uint8_t *stop, float *number) {
    const uint8_t *at = start;
    if (at == stop)
        return false;
    float sign = *at == '-' ? -1 : 1;
    if (*at == '-' || *at == '+')
        at++;
    if (at < stop && *at > '9') {
        *number = at == start && spells(at, stop, "nan") ? NAN : sign * INFINITY;
        return !isinf(*number) || spells(at, stop, "inf") || spells(at, stop, "infinity");
    }
    uint64_t m = 0; /* the first 18 digits, not counting zeros before them; what follows is less than MARGIN */
    int kept = 0;
    int64_t power = 0, written = 0;
    bool any = false, point = false;
    for (; at < stop; at++) {
        unsigned digit = *at - (unsigned)'0';
        if (digit <= 9) {
            any = true;
            if (kept < MOST_DIGITS) {
                m = m * 10 + digit;
                kept += m > 0;
                power -= point;
            } else {
                power += !point;
            }
        } else if (*at == '.' && !point) {
            point = true;
        } else {
            break;
        }
    }
    if (!any || (at < stop && ((*at | 0x20) != 'e' || !exponent(at + 1, stop, &written))))
        return false;
    power += written;
    if (!m || power < SMALLEST_POWER || power > LARGEST_POWER) {
        *number = sign * (m && power > 0 ? INFINITY : 0);
        return true;
    }
    double product = power < 0 ? (double)m / POWERS[-power] : (double)m * POWERS[power];
    if (product < FLT_MIN || (near_middle(product) && (power > 0 || inexact(m, (size_t)-power))))
        return by_strtof(start, stop, number);
    *number = sign * (float)product;
    return true;
}

/* How many of some bytes are this one. Short stretches are counted in bytes, which vectorises best. */
INLINE size_t occurrences(const uint8_t *text, size_t size, uint8_t byte) {
    size_t total = 0;
    while (size) {
        size_t stretch = size < 192 ? size : 192;
        uint8_t found = 0;
        for (size_t i = 0; i < stretch; i++)
            found = (uint8_t)(found + (text[i] == byte));
        total += found;
        text += stretch;
        size -= stretch;
    }
    return total;
}

#endif
