package org.teamtr.train;

/**
 * What ranks that train together divide of the policy that learns, each stage with what the ones before divide: the stages of ZeRO
 * (Rajbhandari et al., 2020).
 */
public enum Sharding {
    /** Nothing. */
    NONE,
    /** AdamW's moments, and f32 weights beside 16-bit ones. */
    STATE,
    /** The gradient. */
    GRADIENTS,
    /** The weights that are computed with, those below adapters too, while it learns and is scored. To speak, each rank has all of them. */
    WEIGHTS;

    /** {@return whether this stage divides what that one does} */
    public boolean divides(Sharding stage) {
        return compareTo(stage) >= 0;
    }
}
