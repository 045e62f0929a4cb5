package org.teamtr.task.environment;

import java.util.List;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Message;
import org.teamtr.team.Oracle;
import org.teamtr.team.Prompt;

/**
 * AR-Bench's situation puzzles: an oracle that knows what happened, the reference answer, answers questions by Yes, No or Unknown, each
 * by itself. After {@code turns} of these comes the explanation, which is scored by its overlap with the reference answer. Figures:
 * {@code f1_char}, {@code f1_word}, {@code turns}.
 */
public final class SituationPuzzle extends Inquiry {
    public SituationPuzzle(int turns, Oracle oracle) {
        super("overlap", turns, oracle);
    }

    @Override
    Game game(Prompt prompt) {
        return new Game(prompt) {
            @Override
            Step heard(Message message) {
                return Step.ask(List.of(new ChatTurn("system", "You are the referee of a riddle. What the players see: "
                        + prompt.text() + "\nWhat happened: " + prompt.answer()
                        + "\nAnswer the question by Yes, No or Unknown alone, or say that it is no"
                        + " question."), new ChatTurn("user", message.text())));
            }

            @Override
            public Step answered(String answer) {
                return next("referee", answer.strip().replaceFirst("\\.$", ""), "", "\nNow say what happened.");
            }
        };
    }
}
