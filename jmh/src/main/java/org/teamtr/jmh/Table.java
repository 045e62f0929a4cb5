package org.teamtr.jmh;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.teamtr.kernels.DType;

/** Turns JMH's JSON into the table of docs/kernels.md: GB/s by bytes / time, beside the floor and libtorch of the same run. */
public final class Table {
    private Table() {
    }

    public static void main(String[] args) throws IOException {
        final Map<String, JsonNode> runs = new TreeMap<>();
        for (JsonNode run : new ObjectMapper().readTree(new File(args[0]))) {
            final String name = run.get("benchmark").asText();
            final String kernel = name.substring(name.lastIndexOf('.', name.lastIndexOf('.') - 1) + 1, name.lastIndexOf('.'));
            runs.put(kernel + run.get("params") + "|" + name.substring(name.lastIndexOf('.') + 1), run);
        }
        System.out.println("| kernel | logits | ms | GB/s | of the read floor | against libtorch |");
        System.out.println("|---|---|---|---|---|---|");
        for (Map.Entry<String, JsonNode> e : runs.entrySet()) {
            if (!e.getKey().endsWith("|teamtr")) {
                continue;
            }
            final String group = e.getKey().substring(0, e.getKey().length() - "teamtr".length());
            final JsonNode params = e.getValue().get("params");
            final double ms = score(e.getValue());
            final DType dtype = DType.valueOf(params.get("dtype").asText());
            final long rows = params.get("rows").asLong();
            final long vocab = params.get("vocab").asLong();
            final boolean kl = group.startsWith("TokenKl");
            final double bytes = (double) LogProbsBenchmark.bytes(dtype, rows, vocab) * (kl ? 2 : 1);
            System.out.printf(Locale.ROOT, "| %s | %s [%d, %d] | %.2f ± %.2f | %.1f | %.2f | %.0f× |%n",
                    kl ? "exact token KL, " + params.get("policies").asText() : "log-probs + entropy", dtype.name().toLowerCase(Locale.ROOT),
                    rows, vocab, ms, e.getValue().get("primaryMetric").get("scoreError").asDouble(), bytes / ms / 1e6,
                    score(runs.get(group + "floor")) / ms, score(runs.get(group + "libtorchOps")) / ms);
        }
    }

    private static double score(JsonNode run) {
        return run == null ? Double.NaN : run.get("primaryMetric").get("score").asDouble();
    }
}
