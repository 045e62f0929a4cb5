package org.teamtr.task.environment;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import org.teamtr.team.ChatTurn;
import org.teamtr.team.Oracle;

/**
 * An oracle without a model, for trying configurations out and for tests: it repeats the sentence of its instructions that has most words
 * in common with the question, and to a question that expects Yes, No or Unknown it answers Yes where most of the words are known,
 * otherwise Unknown. Scores with it say nothing about a team.
 */
public final class ScriptedOracle implements Oracle {
    @Override
    public List<String> answer(List<List<ChatTurn>> questions, long seed, long[] ids) {
        final List<String> answers = new ArrayList<>();
        for (List<ChatTurn> question : questions) {
            final String known = question.get(0).content();
            if (known.contains("###STOP###")) { // a customer: says everything at once, then agrees to everything, and ends after three replies
                final long lines = question.stream().filter(turn -> turn.role().equals("assistant")).count();
                answers.add(lines == 0 ? known.substring(known.indexOf("Instruction: ") + 13) : lines < 3 ? "yes" : "###STOP###");
                continue;
            }
            final Set<String> asked = words(question.get(question.size() - 1).content());
            if (known.contains("Yes, No or Unknown")) {
                final Set<String> both = new TreeSet<>(asked);
                both.retainAll(words(known));
                answers.add(!asked.isEmpty() && 2 * both.size() > asked.size() ? "Yes" : "Unknown");
                continue;
            }
            String best = "I have nothing to say.";
            int most = 0;
            for (String sentence : known.split("(?<=[.!?])\\s+")) {
                final Set<String> both = words(sentence);
                both.retainAll(asked);
                if (both.size() > most) {
                    most = both.size();
                    best = sentence.strip();
                }
            }
            answers.add(best);
        }
        return answers;
    }

    private static Set<String> words(String text) {
        final Set<String> words = new TreeSet<>();
        for (String word : text.toLowerCase(Locale.ROOT).split("[^\\p{L}\\p{N}]+")) {
            if (word.length() > 3) {
                words.add(word);
            }
        }
        return words;
    }
}
