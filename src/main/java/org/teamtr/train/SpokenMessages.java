package org.teamtr.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.teamtr.team.Episode;
import org.teamtr.team.Message;
import org.teamtr.team.Utterance;

/**
 * The messages of a learner's agents in some episodes.
 *
 * @param episodeOf [messages] the index of each one's episode
 */
record SpokenMessages(List<Utterance> messages, int[] episodeOf) {
    static SpokenMessages of(Learner learner, List<Episode> episodes) {
        final List<Utterance> messages = new ArrayList<>();
        final List<Integer> episodeOf = new ArrayList<>();
        for (int e = 0; e < episodes.size(); e++) {
            for (Message message : episodes.get(e).messages()) {
                if (learner.speaksAs(message.agent())) {
                    messages.add(message.utterance());
                    episodeOf.add(e);
                }
            }
        }
        return new SpokenMessages(messages, episodeOf.stream().mapToInt(e -> e).toArray());
    }

    /**
     * {@return the messages as a batch}
     *
     * @param advantages [episodes]
     * @param centredReturns [episodes]
     */
    Batch batch(float[] advantages, float[] centredReturns) {
        return Batch.of(messages, ofMessages(advantages), ofMessages(centredReturns));
    }

    /**
     * {@return [episodes] the sum over the learner's tokens of their log-probs under its current parameters, less those that were recorded
     * when they were sampled; 0 where it said nothing}
     *
     * @param temperature that they were sampled at
     */
    static double[] logRatios(Learner learner, List<Episode> episodes, double temperature) {
        final SpokenMessages said = of(learner, episodes);
        final double[] ratios = new double[episodes.size()];
        if (!said.messages.isEmpty()) {
            final Batch batch = said.batch(new float[ratios.length], new float[ratios.length]); // it is only scored
            said.addTo(ratios, batch.logRatios(learner.policy.score(batch, temperature, null).logProbs()));
        }
        return ratios;
    }

    private float[] ofMessages(float[] perEpisode) {
        final float[] perMessage = new float[episodeOf.length];
        for (int m = 0; m < perMessage.length; m++) {
            perMessage[m] = perEpisode[episodeOf[m]];
        }
        return perMessage;
    }

    /** Adds a number of each message to that of its episode, in the order of the messages. */
    void addTo(double[] perEpisode, double[] perMessage) {
        for (int m = 0; m < episodeOf.length; m++) {
            perEpisode[episodeOf[m]] += perMessage[m];
        }
    }

    /** {@return for each message, the part of its episode's index before the last {@code group}: which prompt it is of} */
    int[] promptOf(int group) {
        return Arrays.stream(episodeOf).map(e -> e / group).toArray();
    }
}
