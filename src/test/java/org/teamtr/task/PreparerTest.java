package org.teamtr.task;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.teamtr.team.Context;
import org.teamtr.team.Prompts;
import org.teamtr.team.Verifier;

class PreparerTest {
    @TempDir
    private Path folder;

    private Path file(String name, String text) throws IOException {
        return Files.writeString(folder.resolve(name), text);
    }

    private Prompts read(String name) throws IOException {
        return PromptFile.read(folder.resolve(name), new PromptFile.Columns("prompt", "answer", "id", "source", true));
    }

    /** The answer column is taken, under the names that copies of AIME have for it, and never the solution. */
    @Test
    void aimeUnderItsManyNames() throws IOException {
        final Path source = file("a.jsonl", "{\"ID\": \"2024-I-1\", \"Problem\": \"p one\", \"Solution\": \"so 33\", \"Answer\": 33}\n"
                + "{\"id\": 2, \"problem\": \"p two\", \"expected_answer\": \"025\"}\n{\"problem\": \"P  One\", \"answer\": \"33\"}\n"
                + "{\"problem\": \"p three\", \"solution\": \"34\"}\n");
        final Preparer.Summary summary = Preparer.prepare("aime24", List.of(source), folder, 0, null);
        assertEquals(2, summary.files().get("aime24.jsonl"));
        assertEquals(1, summary.repeated());
        assertEquals(1, summary.unusable().values().iterator().next());
        final Prompts prompts = read("aime24.jsonl");
        assertEquals("aime24-2024-I-1", prompts.get(0).id());
        assertEquals("so 33", prompts.get(0).meta().get("Solution"));
        assertTrue(prompts.get(0).text().contains("\\boxed{}"));
        final Verifier verifier = Verifiers.of("source", Verifiers.Settings.DEFAULT);
        assertTrue(verifier.score(Context.of(prompts.get(1), List.of("\\boxed{25}"))).correct());
    }

    @Test
    void splitsDependOnPromptsAlone() throws IOException {
        final StringBuilder rows = new StringBuilder();
        final StringBuilder turned = new StringBuilder();
        for (int i = 0; i < 50; i++) {
            final String row = "{\"question\": \"what is " + i + "?\", \"answer\": \"#### " + i + "\"}\n";
            rows.append(row);
            turned.insert(0, row);
        }
        Preparer.prepare("gsm8k", List.of(file("a.jsonl", rows.toString())), folder.resolve("a"), 10, null);
        Preparer.prepare("gsm8k", List.of(file("b.jsonl", turned.toString())), folder.resolve("b"), 10, null);
        final Set<String> a = texts("a/gsm8k-test.jsonl");
        assertEquals(10, a.size());
        assertEquals(a, texts("b/gsm8k-test.jsonl"));
        assertEquals(40, texts("a/gsm8k-train.jsonl").size());
        final Preparer.Summary against =
                Preparer.prepare("gsm8k", List.of(folder.resolve("a.jsonl")), folder.resolve("c"), 0, folder.resolve("a/gsm8k-test.jsonl"));
        assertEquals(10, against.shared());
        final Set<String> left = texts("c/gsm8k.jsonl");
        a.forEach(test -> assertFalse(left.contains(test)));
        assertEquals(64, against.checksums().get(folder.resolve("a.jsonl").toString()).length());
    }

    private Set<String> texts(String name) throws IOException {
        final Prompts prompts = read(name);
        final Set<String> texts = new HashSet<>();
        for (int i = 0; i < prompts.size(); i++) {
            texts.add(prompts.get(i).text());
        }
        return texts;
    }

    @Test
    void otherForms() throws IOException {
        Preparer.prepare("guess_number", List.of(file("gn.json", "[\"0123\", \"9876\", \"0123\"]")), folder, 0, null);
        assertEquals(2, read("guess_number.jsonl").size());
        assertEquals("9876", read("guess_number.jsonl").get(1).answer());
        final String statement =
                "[STATEMENT]\\nAs initial conditions I have that, the red block is clear, the hand is empty and the red block is on the table."
                        + "\\nMy goal is to have that the red block is clear.\\n\\nMy plan is as follows:\\n\\n[PLAN]";
        Preparer.prepare("planbench",
                List.of(file("pb.json", "{\"task\": \"task_1_plan_generation\", \"domain\": \"blocksworld\", \"instances\": [{\"instance_id\": 7,"
                        + " \"query\": \"" + statement + "\", \"ground_truth_plan\": \"\"}]}")),
                folder, 0, null);
        assertEquals("t1", read("planbench.jsonl").get(0).meta().get("task"));
        final String grid = "{\"header\": [\"House\", \"Name\"], \"rows\": [[\"1\", \"Eric\"], [\"2\", \"Arnold\"]]}";
        Preparer.prepare("zebralogic",
                List.of(file("z.json", "[{\"id\": \"x\", \"puzzle\": \"Who?\", \"size\": \"2*1\", \"solution\": " + grid + "}]")), folder, 0, null);
        final Prompts zebra = read("zebralogic.jsonl");
        assertEquals("2*1", zebra.get(0).meta().get("size"));
        assertTrue(Verifiers.of("zebralogic", Verifiers.Settings.DEFAULT).score(Context.of(zebra.get(0), List.of(
                "{\"solution\": {\"House 1\": {\"Name\": \"Eric\"}, \"House 2\": {\"Name\": \"Arnold\"}}}"))).correct());
    }

    @Test
    void whatCannotBePrepared() throws IOException {
        final Path source = file("a.jsonl", "{\"x\": 1}\n");
        assertTrue(assertThrows(IllegalArgumentException.class, () -> Preparer.prepare("chess", List.of(source), folder, 0, null)).getMessage()
                .startsWith("name: expected one of aime24, "));
        assertTrue(assertThrows(IllegalArgumentException.class, () -> Preparer.prepare("math500", List.of(source), folder, 0, null)).getMessage()
                .contains("found 0; prompt: expected a text in one of the columns"));
    }
}
