package org.teamtr.team;

/**
 * What a policy generated: token in, token out. What was sampled is what is trained on; the text is for reading only.
 * The arrays are not copied and must not be changed.
 *
 * @param prompt the very tokens the policy was given
 * @param tokens the sampled tokens, the end token included where it was sampled
 * @param logProbs log-probs of {@code tokens} in nats under the policy that sampled them, at the sampling temperature
 * @param text {@code tokens} decoded, without special tokens
 * @param ended whether the policy ended the message itself; false if the length limit cut it
 * @param version of the policy that sampled, see {@link Speaker#version()}
 */
public record Utterance(int[] prompt, int[] tokens, float[] logProbs, String text, boolean ended, long version) {
}
