package org.teamtr.kernels;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;
import org.junit.jupiter.api.Tag;

/** A test of what only the CPU promises, or only it does in time; left out where the kernels are CUDA's ({@link TestDevice}). */
@Tag("cpu")
@Target({ElementType.TYPE, ElementType.METHOD})
@Retention(RetentionPolicy.RUNTIME)
@interface CpuOnly {
    /** The reason. */
    String value();
}
