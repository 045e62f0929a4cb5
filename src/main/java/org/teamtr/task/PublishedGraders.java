package org.teamtr.task;

import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.teamtr.team.Prompt;

/**
 * Two graders with which others have published figures, including their known mistakes: to reproduce those figures, not for training.
 */
final class PublishedGraders {
    private PublishedGraders() {
    }

    /**
     * The string rule of the MATH data set (Hendrycks et al., 2021), with verl's extraction: layout and units are stripped from both
     * answers, which are then equal if their texts are.
     */
    static final class Hendrycks implements Grader {
        @Override
        public void check(Prompt prompt) {
            Verifiers.gold(prompt);
        }

        @Override
        public Grade grade(Prompt prompt, String text) {
            final String given = answer(prompt, text);
            return Grade.of(given != null && same(Verifiers.gold(prompt), given), given != null);
        }

        /** The last \boxed or \fbox; of "\boxed " all up to the next dollar sign. An \fbox that stands last is none. */
        @Override
        public String answer(Prompt prompt, String text) {
            final int boxed = text.lastIndexOf("\\boxed");
            if (boxed >= 0 && text.startsWith("\\boxed ", boxed)) {
                final int end = text.indexOf('$', boxed);
                return text.substring(boxed + 7, end < 0 ? text.length() : end);
            }
            if (boxed < 0) {
                return null;
            }
            int open = 0;
            for (int i = boxed; i < text.length(); i++) {
                open += text.charAt(i) == '{' ? 1 : text.charAt(i) == '}' ? -1 : 0;
                if (text.charAt(i) == '}' && open == 0) {
                    return text.startsWith("\\boxed{", boxed) ? text.substring(boxed + 7, i) : null;
                }
            }
            return null;
        }

        @Override
        public boolean same(String a, String b) {
            final String x = strip(a);
            final String y = strip(b);
            return x == null || y == null ? a.equals(b) : x.equals(y);
        }

        /** Null where the rule breaks down, so that the texts are compared as they are. */
        private static String strip(String given) {
            String s = given.replace("\n", "").replace("\\!", "").replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac")
                    .replace("\\left", "").replace("\\right", "").replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "");
            final String[] unit = s.split(Pattern.quote("\\text{ "), -1);
            if (unit.length > 2) {
                return null;
            }
            s = unit[0].replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
            if (s.isEmpty()) {
                return s;
            }
            s = s.startsWith(".") ? "0" + s : s;
            final String[] sides = s.split("=", -1);
            s = sides.length == 2 && sides[0].length() <= 2 ? sides[1] : s;
            s = roots(s);
            s = s == null ? null : fractions(s.replace(" ", ""));
            if (s == null) {
                return null;
            }
            return slashed(s.equals("0.5") ? "\\frac{1}{2}" : s);
        }

        private static String roots(String s) {
            if (!s.contains("\\sqrt")) {
                return s;
            }
            final String[] parts = s.split(Pattern.quote("\\sqrt"), -1);
            final StringBuilder out = new StringBuilder(parts[0]);
            for (int i = 1; i < parts.length; i++) {
                if (parts[i].isEmpty()) {
                    return null;
                }
                out.append(parts[i].charAt(0) == '{' ? "\\sqrt" + parts[i] : "\\sqrt{" + parts[i].charAt(0) + "}" + parts[i].substring(1));
            }
            return out.toString();
        }

        private static String fractions(String s) {
            final String[] parts = s.split(Pattern.quote("\\frac"), -1);
            final StringBuilder out = new StringBuilder(parts[0]);
            for (int i = 1; i < parts.length; i++) {
                final String p = parts[i];
                out.append("\\frac");
                if (p.isEmpty()) {
                    return null;
                }
                if (p.charAt(0) == '{') {
                    out.append(p);
                } else if (p.length() < 2) {
                    return s;
                } else if (p.charAt(1) == '{') {
                    out.append('{').append(p.charAt(0)).append('}').append(p.substring(1));
                } else {
                    out.append('{').append(p.charAt(0)).append("}{").append(p.charAt(1)).append('}').append(p.substring(2));
                }
            }
            return out.toString();
        }

        private static String slashed(String s) {
            final Matcher m = Pattern.compile("(0|-?[1-9]\\d*)/(0|-?[1-9]\\d*)").matcher(s);
            return m.matches() ? "\\frac{" + m.group(1) + "}{" + m.group(2) + "}" : s;
        }
    }

    /** The rule that DAPO scores AIME by (Yu et al., 2025): the last "Answer:" in the last 300 characters, normalised as Minerva does. */
    static final class Dapo implements Grader {
        private static final int TAIL = 300;
        private static final Pattern ANSWER = Pattern.compile("(?i)Answer\\s*:\\s*([^\\n]+)");
        private static final String[][] REPLACED = {{"an ", ""}, {"a ", ""}, {".$", "$"}, {"\\$", ""}, {"\\ ", ""}, {" ", ""}, {"mbox", "text"},
            {",\\text{and}", ","}, {"\\text{and}", ","}, {"\\text{m}", "\\text{}"}};
        private static final List<String> REMOVED = List.of("square", "ways", "integers", "dollars", "mph", "inches", "hours", "km", "units",
                "\\ldots", "sue", "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges",
                "students", "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}",
                "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", "\"", "\\dots");

        @Override
        public void check(Prompt prompt) {
            Verifiers.gold(prompt);
        }

        @Override
        public Grade grade(Prompt prompt, String text) {
            final String given = answer(prompt, text);
            return Grade.of(given != null && normalised(Verifiers.gold(prompt)).equals(given), given != null);
        }

        @Override
        public String answer(Prompt prompt, String text) {
            final Matcher m = ANSWER.matcher(text.substring(Math.max(0, text.length() - TAIL)));
            String last = null;
            while (m.find()) {
                last = m.group(1);
            }
            return last == null ? null : normalised(last);
        }

        private static String normalised(String answer) {
            String s = answer.substring(answer.lastIndexOf('=') + 1);
            for (String[] pair : REPLACED) {
                s = s.replace(pair[0], pair[1]);
            }
            for (String word : REMOVED) {
                s = s.replace(word, "");
            }
            final int from = s.indexOf('$');
            final int to = from < 0 ? -1 : s.indexOf('$', from + 1);
            s = to < 0 ? s : s.substring(from, to + 1);
            s = s.replaceAll("\\\\text(?:bf)?\\{(.*?)}", "$1").replaceAll("\\\\overline\\{(.*?)}", "$1").replaceAll("\\\\boxed\\{(.*)}", "$1");
            s = s.replaceAll("frac([^{])(.)", "frac{$1}{$2}").replaceAll("sqrt([^{])", "sqrt{$1}").replace("$", "");
            return s.replace(",", "").matches("\\d+") ? s.replace(",", "") : s.strip();
        }
    }
}
