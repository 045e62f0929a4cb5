package org.teamtr.jmh;

/** The two 16-bit formats, rounded to nearest, ties to even. Finite numbers only. */
final class Halves {
    private Halves() {
    }

    static short toBf16(float x) {
        final int bits = Float.floatToRawIntBits(x);
        return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
    }

    static float ofBf16(short x) {
        return Float.intBitsToFloat(x << 16);
    }

    static short toF16(float x) {
        final int sign = Float.floatToRawIntBits(x) >>> 16 & 0x8000;
        final float size = Math.abs(x);
        if (size < 0x1p-14f) {
            return (short) (sign | (int) Math.rint(size * 0x1p24));
        }
        final int bits = Float.floatToRawIntBits(size);
        return (short) (sign | (bits + 0xfff + (bits >>> 13 & 1) >>> 13) - (112 << 10));
    }

    static float ofF16(short x) {
        final int size = x & 0x7fff;
        final float value = size < 0x400 ? size * 0x1p-24f : Float.intBitsToFloat(size + (112 << 10) << 13);
        return x < 0 ? -value : value;
    }
}
