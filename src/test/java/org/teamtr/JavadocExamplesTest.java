package org.teamtr;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Every public class of the kernels has an example in its Javadoc, and all examples compile. */
class JavadocExamplesTest {
    private static final Path SOURCES = Path.of("src", "main", "java", "org", "teamtr");
    private static final Pattern EXAMPLE = Pattern.compile("<pre>\\{@code\n((?: *\\*.*\n)*?) *\\* }</pre>");
    private static final Pattern TYPE = Pattern.compile("^public .*\\b(?:class|record|enum) ", Pattern.MULTILINE);

    private static final String IMPORTS = "import java.nio.*; import java.util.*; import org.bytedeco.javacpp.*; import org.teamtr.kernels.*;";
    /** What an example may use without declaring it: names that say what they stand for. */
    private static final String KERNELS =
            IMPORTS + " class %s { Logits logits, oldLogits, newLogits, dLogits, onHost, leftHalf, rightHalf, x, y, weight, norm;"
                    + " Indices targets, cuSeqlens; Floats logProbs, logProbsOld, logProbsNew, lse, entropy, kl, gradKl, gradLogProbs, advantages;"
                    + " Mask mask; SurrogateStats stats; Device gpu; Object tensor; long address, batch, length, rows, vocab;";
    private static final String TORCH = IMPORTS + " import org.bytedeco.pytorch.*; import org.teamtr.torch.LinearLogProbs; class %s {"
            + " Tensor hidden, weight, targets, gradLogProbs, dHidden, dWeight; long vocab; long[] cuSeqlens;";

    @TempDir
    private Path classes;

    /** A source file, which may lie in memory. */
    private static final class Source extends SimpleJavaFileObject {
        private final String text;

        Source(String name, String text) {
            super(URI.create("string:///" + name + ".java"), Kind.SOURCE);
            this.text = text;
        }

        @Override
        public CharSequence getCharContent(boolean ignoreEncodingErrors) {
            return text;
        }
    }

    @Test
    void everyPublicClassHasAnExampleAndAllCompile() throws IOException {
        final List<Path> files = new ArrayList<>(List.of(SOURCES.resolve("torch").resolve("LinearLogProbs.java")));
        try (Stream<Path> kernels = Files.list(SOURCES.resolve("kernels"))) {
            kernels.filter(file -> file.toString().endsWith(".java")).forEach(files::add);
        }
        final List<Source> examples = new ArrayList<>();
        final List<String> without = new ArrayList<>();
        for (Path file : files) {
            final String text = Files.readString(file);
            final String name = file.getFileName().toString().replace(".java", "").replace('-', '_') + "Example";
            final StringBuilder example = new StringBuilder(String.format(file.toString().contains("torch") ? TORCH : KERNELS, name));
            final Matcher type = TYPE.matcher(text);
            final boolean isPublic = type.find();
            final Matcher code = EXAMPLE.matcher(text);
            int count = 0;
            for (; code.find(); count++) {
                example.append(" void example").append(count).append("() throws Exception {\n")
                        .append(code.group(1).replaceAll("(?m)^ *\\* ?", "")).append("}");
            }
            if (isPublic && !code.reset().region(0, type.start()).find()) {
                without.add(file.getFileName().toString());
            }
            if (count > 0) {
                examples.add(new Source(name, example.append(" }").toString()));
            }
        }
        assertEquals(List.of(), without, "public classes without an example in their Javadoc");
        assertTrue(examples.size() > 20, "too few examples were found: " + examples.size());
        assertEquals(List.of(), compile(examples));
    }

    private List<String> compile(List<Source> sources) {
        final DiagnosticCollector<JavaFileObject> problems = new DiagnosticCollector<>();
        final JavaCompiler javac = ToolProvider.getSystemJavaCompiler();
        final String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
        javac.getTask(null, null, problems, List.of("-proc:none", "-d", classes.toString(), "-classpath", classPath), null, sources).call();
        return problems.getDiagnostics().stream().filter(d -> d.getKind() == Diagnostic.Kind.ERROR).map(Object::toString).toList();
    }
}
