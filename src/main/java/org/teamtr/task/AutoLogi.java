package org.teamtr.task;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.teamtr.team.Prompt;

/**
 * AutoLogi's puzzles (Zhu et al., 2025), each judged by the Python verifier that comes with it: {@code meta.code} holds
 * {@code Inputs_Check_code} and {@code Constraint_List_code}.
 *
 * <p>The verifier runs in a process of its own, of a CPython that the configuration names: isolated from the machine's packages and
 * environment, with limits of time and memory, without network (in a network namespace of its own where the system allows one, and under
 * an audit hook in any case), without writing files or starting processes. An answer on which the verifier prints something is wrong,
 * as it is in the published score. A verifier that breaks, whatever the answer, is an error that names the item.
 */
final class AutoLogi implements Grader {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Pattern FENCE = Pattern.compile("```[^\\n`]*\\n(.*?)```", Pattern.DOTALL);
    private static final Pattern LIST = Pattern.compile("\\[.*?]", Pattern.DOTALL);
    private static final String SCRIPT = script();

    private final List<String> command;
    private final int seconds;
    private final long bytes;

    /**
     * @param python the interpreter: a name on the path, or a file
     * @param seconds of processor time for one answer
     * @param megabytes of memory
     * @throws IllegalArgumentException if there is no such interpreter, or it is older than 3.8
     */
    AutoLogi(String python, int seconds, int megabytes) {
        this.seconds = seconds;
        this.bytes = megabytes * 1_000_000L;
        final List<String> plain = List.of(python, "-I", "-S", "-X", "utf8", "-c");
        final String version = answer(plain, "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)");
        if (version == null || !version.matches("3\\.(?:[89]|\\d\\d) cpython\\s*")) {
            throw new IllegalArgumentException("verifier: expected CPython 3.8 or later for autologi, which runs each item's own verifier, given "
                    + python + (version == null ? ", which does not start" : ", which is " + version.strip()) + "; task.files.python names another");
        }
        final List<String> alone = new ArrayList<>(List.of("unshare", "-rn", "--"));
        alone.addAll(plain);
        command = "1".equals(answer(alone, "print(1)")) ? alone : plain;
    }

    private static String script() {
        try (InputStream in = AutoLogi.class.getResourceAsStream("autologi.py")) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** What a short program prints, or null if it cannot be run. */
    private static String answer(List<String> command, String program) {
        final List<String> all = new ArrayList<>(command);
        all.add(program);
        try {
            final String out = run(all, "", 20);
            return out == null ? null : out.strip();
        } catch (IOException e) {
            return null;
        }
    }

    /** Null if it fails or takes too long. */
    private static String run(List<String> command, String input, int seconds) throws IOException {
        final ProcessBuilder builder = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD);
        builder.environment().keySet().retainAll(List.of("PATH", "SystemRoot"));
        final Process process = builder.start();
        try {
            try (OutputStream in = process.getOutputStream()) {
                in.write(input.getBytes(StandardCharsets.UTF_8));
            } catch (IOException e) { // it ended without reading; its exit says so
            }
            if (!process.waitFor(seconds, TimeUnit.SECONDS) || process.exitValue() != 0) {
                return null;
            }
            return new String(process.getInputStream().readNBytes(10_000), StandardCharsets.UTF_8);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        } finally {
            process.descendants().forEach(ProcessHandle::destroyForcibly);
            process.destroyForcibly();
        }
    }

    @Override
    public void check(Prompt prompt) {
        code(prompt, "Inputs_Check_code");
        code(prompt, "Constraint_List_code");
    }

    private static String code(Prompt prompt, String name) {
        final Object code = prompt.meta().get("code") instanceof Map<?, ?> map ? map.get(name) : null;
        if (!(code instanceof String text) || text.isBlank()) {
            throw new IllegalArgumentException(
                    "code." + name + ": expected the Python text of a verifier, given " + (code == null ? "nothing" : code));
        }
        return text;
    }

    @Override
    public Grade grade(Prompt prompt, String text) {
        final String answer = answer(prompt, text);
        if (answer == null) {
            return Grade.of(false, false);
        }
        final ObjectNode request = JSON.createObjectNode().put("check", code(prompt, "Inputs_Check_code"))
                .put("constraints", code(prompt, "Constraint_List_code")).put("answer", answer).put("seconds", seconds).put("bytes", bytes);
        final List<String> all = new ArrayList<>(command);
        all.add(SCRIPT);
        final JsonNode result;
        try {
            final String out = run(all, JSON.writeValueAsString(request), 2 * seconds + 10);
            if (out == null) {
                throw new IllegalStateException(prompt.id() + ": the item's verifier took more than " + seconds + " s or " + bytes / 1_000_000
                        + " MB, or ended by itself");
            }
            result = JSON.readTree(out);
        } catch (IOException e) {
            throw new IllegalStateException(prompt.id() + ": the item's verifier could not be run: " + e.getMessage(), e);
        }
        switch (result.path("status").asText()) {
            case "unread":
                return Grade.of(false, false);
            case "judged":
                final int of = result.path("of").asInt();
                final int right = result.path("right").asInt();
                final boolean legal = result.path("legal").asBoolean() && result.path("silent").asBoolean();
                return new Grade(legal && right == of, legal ? of == 0 ? 1 : (double) right / of : 0, true,
                        Map.of("legal", legal ? 1.0 : 0, "constraints", (double) right));
            default:
                throw new IllegalStateException(prompt.id() + ": the item's verifier is broken: " + result.path("reason").asText());
        }
    }

    /** The last fenced block; else the last object in braces; else the last list; null if there is none of these. */
    @Override
    public String answer(Prompt prompt, String text) {
        final String fenced = last(FENCE.matcher(text), 1);
        if (fenced != null) {
            return fenced;
        }
        int open = 0;
        int start = -1;
        String object = null;
        for (int i = 0; i < text.length(); i++) {
            if (text.charAt(i) == '{') {
                start = open++ == 0 ? i : start;
            } else if (text.charAt(i) == '}' && open > 0 && --open == 0) {
                object = text.substring(start, i + 1);
            }
        }
        return object != null ? object : last(LIST.matcher(text), 0);
    }

    private static String last(Matcher m, int group) {
        String last = null;
        while (m.find()) {
            last = m.group(group);
        }
        return last;
    }
}
