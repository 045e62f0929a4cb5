package org.teamtr.train;

/** How products of f32 numbers are computed. */
public enum Matmul {
    /** In f32. */
    F32,
    /** On CUDA's tensor cores, with inputs rounded to TF32's 10 bits of mantissa; on the CPU the same rounding is emulated. */
    TF32
}
