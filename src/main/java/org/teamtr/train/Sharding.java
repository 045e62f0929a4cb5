package org.teamtr.train;

/**
 * The parts of the learning policy's state that ranks divide, each stage including those before it: the stages of ZeRO
 * (Rajbhandari et al., 2020).
 */
public enum Sharding {
    /** Nothing. */
    NONE,
    /** AdamW's moments, and f32 weights beside 16-bit ones. */
    STATE,
    /** The gradient. */
    GRADIENTS,
    /** The weights in the policy's dtype, those below adapters too, while it learns and is scored. For generation each rank has all of them. */
    WEIGHTS;

    /** {@return whether this stage divides what that one does} */
    public boolean divides(Sharding stage) {
        return compareTo(stage) >= 0;
    }
}
