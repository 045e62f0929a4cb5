package cuda;

import org.teamtr.team.Context;
import org.teamtr.team.Verifier;

/** For the check of the trainer with random weights: right if the last message ends in an even character where the answer is 0. */
public final class Parity implements Verifier {
    @Override
    public Score score(Context episode) {
        final String said = episode.messages().get(episode.messages().size() - 1).text();
        final int last = said.isEmpty() ? 0 : said.codePointBefore(said.length());
        final boolean right = last % 2 == Integer.parseInt(episode.prompt().answer());
        return new Score(right ? 1 : 0, right);
    }
}
