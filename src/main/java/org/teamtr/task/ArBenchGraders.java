package org.teamtr.task;

import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;
import java.util.stream.Collectors;
import org.teamtr.team.Prompt;

/** AR-Bench's scores of final answers (Zhou et al., 2025): the letter of a detective's, the overlap of a free text. */
final class ArBenchGraders {
    private ArBenchGraders() {
    }

    /** The letter of the suspect: the last capital A to E on the first line with something on it behind the first {@code Answer:}. */
    static final class Detective implements Grader {
        @Override
        public void check(Prompt prompt) {
            gold(prompt);
        }

        private static String gold(Prompt prompt) {
            final String gold = Verifiers.gold(prompt).strip();
            if (gold.matches("[A-E]")) {
                return gold;
            }
            if (gold.matches("[0-4]")) { // the suspect's number
                return String.valueOf((char) ('A' + Integer.parseInt(gold)));
            }
            throw new IllegalArgumentException(
                    "answer: expected a letter from A to E or a number from 0 to 4, given \"" + Verifiers.shortened(gold) + "\"");
        }

        @Override
        public Grade grade(Prompt prompt, String text) {
            final String letter = answer(prompt, text);
            return Grade.of(gold(prompt).equals(letter), letter != null);
        }

        @Override
        public String answer(Prompt prompt, String text) {
            final int mark = text.indexOf("Answer:");
            final String line = mark < 0 ? "" : text.substring(mark + 7).lines().filter(l -> !l.isBlank()).findFirst().orElse("");
            for (int i = line.length() - 1; i >= 0; i--) {
                if (line.charAt(i) >= 'A' && line.charAt(i) <= 'E') {
                    return line.substring(i, i + 1);
                }
            }
            return null;
        }
    }

    /**
     * Free text by F1 of characters and of words, as multisets, case and punctuation kept: figures {@code f1_char}, {@code f1_word}, the
     * share being the latter. By characters any two texts of like length are alike, so no episode counts as correct by it: correct is a
     * word F1 of one half or more.
     */
    static final class Overlap implements Grader {
        @Override
        public void check(Prompt prompt) {
            if (Verifiers.gold(prompt).isBlank()) {
                throw new IllegalArgumentException("answer: expected a text, given none");
            }
        }

        @Override
        public Grade grade(Prompt prompt, String text) {
            final String gold = Verifiers.gold(prompt);
            final double characters = f1(parts(text, false), parts(gold, false));
            final double words = f1(parts(text, true), parts(gold, true));
            final Map<String, Double> figures = new LinkedHashMap<>();
            figures.put("f1_char", characters);
            figures.put("f1_word", words);
            return new Grade(words >= 0.5, words, !text.isBlank(), figures);
        }
    }

    static List<String> parts(String text, boolean words) {
        if (words) {
            return text.isBlank() ? List.of() : List.of(text.strip().split("\\s+"));
        }
        final IntFunction<String> character = Character::toString;
        return text.codePoints().mapToObj(character).toList();
    }

    /** 2 P R / (P + R) of two multisets; 0 if they have nothing in common. */
    static double f1(List<String> given, List<String> gold) {
        final Map<String, Integer> left = gold.stream().collect(Collectors.toMap(g -> g, g -> 1, Integer::sum, HashMap::new));
        int both = 0;
        for (String part : given) {
            both += left.merge(part, -1, Integer::sum) >= 0 ? 1 : 0;
        }
        if (both == 0) {
            return 0;
        }
        final double precision = (double) both / given.size();
        final double recall = (double) both / gold.size();
        return 2 * precision * recall / (precision + recall);
    }
}
