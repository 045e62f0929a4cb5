package org.teamtr.experiment;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.StreamSupport;
import org.teamtr.config.ConfigException;
import org.teamtr.config.ConfigFile;
import org.teamtr.config.ConfigRules;
import org.teamtr.config.ConfigTree;
import org.teamtr.config.Setup;
import org.teamtr.config.Variants;
import org.teamtr.train.Config;

/**
 * Experiments as files. {@code org/teamtr/experiment/experiments/team-size.yaml} explains the keys; those that only one experiment needs
 * are explained in its file.
 */
public final class ExperimentFile {
    /** All that come with the program, in the order of docs/results.md. */
    public static final List<String> NAMES = List.of("stale-gap", "team-size", "ablation", "ablation-long", "out-of-region", "certificate",
            "certificate-exact", "accept", "monitor", "weights", "replacement", "cost", "environments");

    private static final List<String> KEYS = List.of("title", "paper", "question", "seeds", "config", "start", "axes", "quick",
            "columns",
            "curves", "picture", "published", "claims", "reading");

    private static final Pattern HISTOGRAM =
            Pattern.compile("(metrics|diagnostics)\\.[a-z0-9_]+( / (metrics|diagnostics)\\.[a-z0-9_]+)?");

    /** The settings of a point's runs. {@code exact}: with tables and sums instead of models and samples. */
    public record Setting(Experiment.Point point, JsonNode config, String variant, Map<String, String> replace, boolean exact) {
        /** {@return the configuration of one of its runs} */
        public Config config(long seed, int threads) throws ConfigException {
            return resolved(config, variant, point.name(), seed, threads);
        }
    }

    public final Experiment experiment;
    public final int seeds;
    public final List<Setting> settings;
    private final JsonNode start;

    private ExperimentFile(Experiment experiment, int seeds, List<Setting> settings, JsonNode start) {
        this.experiment = experiment;
        this.seeds = seeds;
        this.settings = settings;
        this.start = start;
    }

    /** {@return whether each seed first has a run from which the runs of all points continue} */
    public boolean starts() {
        return start != null;
    }

    /** {@return the configuration of that run} */
    public Config start(long seed, int threads) throws ConfigException {
        return resolved(start, null, "start", seed, threads);
    }

    private static Config resolved(JsonNode config, String variant, String where, long seed, int threads) throws ConfigException {
        try {
            return Setup.resolved(ConfigFile.of(config, variant, List.of("seed=" + seed, "hardware.threads=" + threads)));
        } catch (ConfigException e) {
            throw new ConfigException(e.problems().stream().map(p -> where + ": " + p).toList());
        }
    }

    // ---- reading ----

    /**
     * Reads an experiment.
     *
     * @param nameOrFile one of {@link #NAMES}, or a file that ends in .yaml
     * @param quick with the smaller settings
     * @throws ConfigException with everything that is wrong
     */
    public static ExperimentFile load(String nameOrFile, boolean quick) throws ConfigException, IOException {
        final boolean file = nameOrFile.endsWith(".yaml");
        if (!file && !NAMES.contains(nameOrFile)) {
            throw new ConfigException(List.of(nameOrFile + ": expected a file that ends in .yaml, or one of "
                    + String.join(", ", NAMES)));
        }
        final String text;
        try (InputStream in = file ? Files.newInputStream(Path.of(nameOrFile))
                : ExperimentFile.class.getResourceAsStream("experiments/" + nameOrFile + ".yaml")) {
            text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (NoSuchFileException e) {
            throw new ConfigException(List.of(nameOrFile + ": no such file"));
        }
        final String name = file ? Path.of(nameOrFile).getFileName().toString().replaceFirst("\\.yaml$", "") : nameOrFile;
        return new Reader(name, nameOrFile, text, quick).read();
    }

    /** Reads one file: problems are collected, and the parts that have them are skipped. */
    private static final class Reader {
        final ConfigTree tree = new ConfigTree();
        final String name;
        final String text;
        final boolean quick;
        final JsonNode root;

        Reader(String name, String source, String text, boolean quick) throws ConfigException {
            this.name = name;
            this.text = text;
            this.quick = quick;
            root = tree.read(text, source, "", false);
            tree.check();
        }

        ExperimentFile read() throws ConfigException {
            keys(root, "", KEYS);
            final String title = text(root, "title", "");
            final String paper = text(root, "paper", "");
            final String question = text(root, "question", "").replaceAll("\\s+", " ");
            final String reading = root.has("reading") ? text(root, "reading", "").replaceAll("\\s+", " ").strip() : "";
            final JsonNode less = root.path("quick");
            keys(less, "quick", List.of("seeds", "axes", "config", "start"));
            keys(less.path("axes"), "quick.axes", names(root.path("axes")));
            final List<Setting> settings = settings();
            final List<String> points = settings.stream().map(s -> s.point().name()).toList();
            final Map<String, Experiment.Column> columns = columns("columns");
            final Map<String, Experiment.Column> curves = columns("curves");
            final JsonNode picture = root.path("picture");
            keys(picture, "picture", List.of("x", "where", "columns"));
            final List<String> axes = names(root.path("axes"));
            final String x = picture.has("x") ? among(picture.path("x"), "picture.x", axes) : null;
            if (x != null) {
                numeric("picture.x", x);
            }
            final List<String> where = valuesOf(axes, picture.path("where"), "picture.where");
            final List<String> pictures = listOf(picture.path("columns"), "picture.columns", columns.keySet());
            final Map<String, Map<String, Double>> published = published(columns.keySet(), points);
            final List<Claim> claims = claims(columns.keySet(), axes, points);
            final int all = count(root.path("seeds"), "seeds");
            final int seeds = quick && less.has("seeds") ? count(less.path("seeds"), "quick.seeds") : all;
            final JsonNode start = !root.has("start") ? null
                    : merged(List.of(root.path("config"), root.path("start"), quickly("config"), quickly("start")));
            for (Setting s : settings) {
                if ((start == null) != (s.replace() == null)) {
                    tree.problem("axes", "expected a value with replace in every point of an experiment with start, and in none"
                            + " without, given " + s.point().name());
                }
                if (s.exact() && s.replace() != null) {
                    tree.problem("axes", "expected exact points without replace, given " + s.point().name());
                }
            }
            final List<Setting> some = some(settings);
            tree.check();
            final Experiment experiment = new Experiment(name, new Experiment.Text(title, paper, question, reading, text),
                    some.stream().map(Setting::point).toList(), columns, curves, new Experiment.Pictures(x, where, pictures), published,
                    claims);
            return new ExperimentFile(experiment, seeds, some, start);
        }

        // ---- points ----

        /** Keys of a configuration that --quick lays over those of all points; what a point sets itself stays. */
        private JsonNode quickly(String key) {
            return quick ? root.path("quick").path(key) : JsonNodeFactory.instance.objectNode();
        }

        /** Every combination of one value of each axis. */
        private List<Setting> settings() {
            section(root.path("axes"), "axes");
            List<Map<String, String>> points = List.of(Map.of());
            for (String axis : names(root.path("axes"))) {
                section(root.path("axes").path(axis), "axes." + axis);
                final List<Map<String, String>> longer = new ArrayList<>();
                for (Map<String, String> point : points) {
                    for (String value : names(root.path("axes").path(axis))) {
                        final Map<String, String> next = new LinkedHashMap<>(point);
                        next.put(axis, value);
                        longer.add(next);
                    }
                }
                points = longer;
            }
            return points.stream().map(this::setting).toList();
        }

        /** Those that --quick does not leave out. */
        private List<Setting> some(List<Setting> settings) {
            List<Setting> some = settings;
            for (String axis : names(root.path("quick").path("axes"))) {
                final List<String> values = listOf(root.path("quick").path("axes").path(axis), "quick.axes." + axis,
                        names(root.path("axes").path(axis)));
                some = some.stream().filter(s -> values.contains(s.point().at().get(axis))).toList();
            }
            return quick ? some : settings;
        }

        private Setting setting(Map<String, String> at) {
            final List<JsonNode> layers = new ArrayList<>(List.of(root.path("config"), quickly("config")));
            String variant = null;
            Map<String, String> replace = null;
            boolean exact = false;
            for (var value : at.entrySet()) {
                final String path = "axes." + value.getKey() + "." + value.getValue();
                final JsonNode overlay = root.path("axes").path(value.getKey()).path(value.getValue());
                if (overlay.has("variant")) {
                    if (variant != null) {
                        tree.problem(path + ".variant", "expected one axis with variants, given two");
                    }
                    variant = among(overlay.path("variant"), path + ".variant", Variants.NAMES);
                }
                if (overlay.has("replace")) {
                    replace = new LinkedHashMap<>();
                    for (String option : names(overlay.path("replace"))) {
                        replace.put(option, overlay.path("replace").path(option).asText());
                    }
                }
                if (overlay.has("exact")) {
                    if (!overlay.path("exact").isBoolean()) {
                        tree.problem(path + ".exact", "expected true or false, given "
                                + ConfigRules.shown(overlay.path("exact")));
                    }
                    exact |= overlay.path("exact").booleanValue();
                }
                if (overlay instanceof ObjectNode keys) {
                    layers.add(keys.deepCopy().without(List.of("variant", "replace", "exact")));
                } else if (!overlay.isNull()) {
                    tree.problem(path, "expected keys of a configuration, given " + ConfigRules.shown(overlay));
                }
            }
            final StringBuilder point = new StringBuilder();
            at.forEach((axis, value) -> point.append(point.isEmpty() ? "" : "-").append(isNumber(value) ? axis : "")
                    .append(value));
            if (!point.toString().matches("[A-Za-z0-9][A-Za-z0-9._-]*")) {
                tree.problem("axes", "expected names of letters, digits, '.', '_' and '-', given " + point);
            }
            return new Setting(new Experiment.Point(point.toString(), at), merged(layers), variant, replace, exact);
        }

        private static JsonNode merged(List<JsonNode> layers) {
            final ObjectNode all = JsonNodeFactory.instance.objectNode();
            layers.stream().filter(JsonNode::isObject).forEach(layer -> ConfigFile.merge(all, layer));
            return all;
        }

        private static boolean isNumber(String value) {
            return value.matches("[0-9]+(\\.[0-9]+)?");
        }

        private void numeric(String path, String axis) {
            for (String value : names(root.path("axes").path(axis))) {
                if (!isNumber(value)) {
                    tree.problem(path, "expected an axis of numbers, given " + axis + ", which has " + value);
                }
            }
        }

        // ---- what is measured and said ----

        private Map<String, Experiment.Column> columns(String key) {
            final boolean curves = key.equals("curves");
            final Map<String, Experiment.Column> columns = new LinkedHashMap<>();
            section(root.path(key), key);
            for (String name : names(root.path(key))) {
                final String path = key + "." + name;
                final JsonNode column = root.path(key).path(name);
                keys(column, path, curves ? List.of("label", "of", "scale", "unit", "bin") : List.of("label", "of", "scale", "unit"));
                if (!curves && ExperimentData.OF_RUNS.contains(name)) {
                    tree.problem(path, "expected another name than " + String.join(", ", ExperimentData.OF_RUNS)
                            + ", which every run has");
                }
                final String of = text(column, "of", path);
                final double bin = number(column, "bin", path, 0);
                final boolean right;
                final String expected;
                if (bin > 0) {
                    right = HISTOGRAM.matcher(of).matches();
                    expected = "metrics.NAME or diagnostics.NAME, or one over another";
                } else if (curves) {
                    right = of.matches("stages\\.[a-z0-9_]+");
                    expected = "stages.NAME";
                } else {
                    final String[] sides = of.split(" / ");
                    right = RunNumbers.understands(of) || sides.length == 2 && columns.keySet().containsAll(List.of(sides));
                    expected = "FILE.NAME of summary, metrics, stages, diagnostics or replacements, sums with + and -, and one /,"
                            + " or two columns before it";
                }
                if (!of.isEmpty() && !right) {
                    tree.problem(path + ".of", "expected " + expected + ", given " + of);
                }
                final JsonNode unit = column.path("unit");
                columns.put(name, new Experiment.Column(text(column, "label", path), of, number(column, "scale", path, 1),
                        unit.isTextual() ? unit.textValue() : "", bin));
            }
            return columns;
        }

        private Map<String, Map<String, Double>> published(Collection<String> columns, List<String> points) {
            final Map<String, Map<String, Double>> published = new LinkedHashMap<>();
            final JsonNode all = root.path("published");
            section(all, "published");
            final List<String> header = all.has("columns") ? listOf(all.path("columns"), "published.columns", columns)
                    : List.of();
            for (String point : names(all)) {
                if (!point.equals("columns")) {
                    final String path = "published." + point;
                    final JsonNode line = all.path(point);
                    if (!points.contains(point)) {
                        tree.problem(path, "expected a point, one of " + String.join(", ", points));
                    }
                    if (!line.isArray() || line.size() != header.size()) {
                        tree.problem(path, "expected " + header.size() + " numbers, one for each of published.columns, given "
                                + ConfigRules.shown(line));
                        continue;
                    }
                    for (int i = 0; i < header.size(); i++) {
                        if (line.get(i).isNumber()) {
                            published.computeIfAbsent(point, p -> new LinkedHashMap<>())
                                    .put(header.get(i), line.get(i).doubleValue());
                        } else if (!line.get(i).isNull()) {
                            tree.problem(path, "expected numbers, or null for none, given " + ConfigRules.shown(line.get(i)));
                        }
                    }
                }
            }
            return published;
        }

        private List<Claim> claims(Collection<String> columns, List<String> axes, List<String> points) {
            final List<Claim> claims = new ArrayList<>();
            final JsonNode all = root.path("claims");
            if (!all.isArray()) {
                tree.problem("claims", "expected a list of claims, given " + ConfigRules.shown(all));
                return claims;
            }
            for (int i = 0; i < all.size(); i++) {
                final JsonNode c = all.get(i);
                final String path = "claims[" + i + "]";
                final String says = text(c, "says", path);
                if (c.has("order")) {
                    keys(c, path, List.of("says", "order", "points"));
                    claims.add(new Claim.Order(says, among(c.path("order"), path + ".order", columns),
                            listOf(c.path("points"), path + ".points", points)));
                } else if (c.has("range")) {
                    keys(c, path, List.of("says", "range", "points", "from", "to", "least", "most"));
                    final double[] r = range(c, path);
                    claims.add(new Claim.Range(says, among(c.path("range"), path + ".range", columns),
                            listOf(c.path("points"), path + ".points", points), r[0], r[1], r[2], r[3]));
                } else if (c.has("slope")) {
                    keys(c, path, List.of("says", "slope", "over", "where", "from", "to", "least", "most"));
                    final double[] r = range(c, path);
                    final String over = among(c.path("over"), path + ".over", axes);
                    numeric(path + ".over", over);
                    claims.add(new Claim.Slope(says, among(c.path("slope"), path + ".slope", columns), over,
                            valuesOf(axes, c.path("where"), path + ".where"), r[0], r[1], r[2], r[3]));
                } else if (c.has("ranks")) {
                    keys(c, path, List.of("says", "ranks"));
                    claims.add(new Claim.Ranks(says, among(c.path("ranks"), path + ".ranks", columns)));
                } else if (c.has("untestable")) {
                    keys(c, path, List.of("says", "untestable"));
                    claims.add(new Claim.Untestable(says, text(c, "untestable", path)));
                } else {
                    tree.problem(path, "expected one of order, range, slope, ranks, untestable, given " + ConfigRules.shown(c));
                }
            }
            return claims;
        }

        /** Values of any axis. */
        private List<String> valuesOf(List<String> axes, JsonNode list, String path) {
            final List<String> values = new ArrayList<>();
            axes.forEach(axis -> values.addAll(names(root.path("axes").path(axis))));
            return listOf(list, path, values);
        }

        private double[] range(JsonNode c, String path) {
            final double low = number(c, "from", path, Double.NEGATIVE_INFINITY);
            final double high = number(c, "to", path, Double.POSITIVE_INFINITY);
            return new double[] {low, high, number(c, "least", path, low), number(c, "most", path, high)};
        }

        // ---- small things ----

        private static List<String> names(JsonNode section) {
            final List<String> names = new ArrayList<>();
            section.fieldNames().forEachRemaining(names::add);
            return names;
        }

        private void section(JsonNode node, String path) {
            if (!node.isObject() && !node.isMissingNode()) {
                tree.problem(path, "expected keys with values, given " + ConfigRules.shown(node));
            }
        }

        private void keys(JsonNode node, String path, List<String> known) {
            section(node, path);
            for (String key : names(node)) {
                if (!known.contains(key)) {
                    tree.problem(path.isEmpty() ? key : path + "." + key, "unknown key; known here: " + String.join(", ", known));
                }
            }
        }

        private String text(JsonNode node, String key, String path) {
            final JsonNode value = node.path(key);
            if (!value.isTextual() || value.textValue().isBlank()) {
                tree.problem(path.isEmpty() ? key : path + "." + key, "expected text, given "
                        + (value.isMissingNode() ? "nothing" : ConfigRules.shown(value)));
                return "";
            }
            return value.textValue();
        }

        private double number(JsonNode node, String key, String path, double otherwise) {
            final JsonNode value = node.path(key);
            if (!value.isMissingNode() && !value.isNumber()) {
                tree.problem(path + "." + key, "expected a number, given " + ConfigRules.shown(value));
            }
            return value.isNumber() ? value.doubleValue() : otherwise;
        }

        private int count(JsonNode value, String path) {
            if (!value.isIntegralNumber() || value.intValue() < 1) {
                tree.problem(path, "expected a whole number of 1 or more, given "
                        + (value.isMissingNode() ? "nothing" : ConfigRules.shown(value)));
                return 1;
            }
            return value.intValue();
        }

        private String among(JsonNode value, String path, Collection<String> known) {
            if (!known.contains(value.asText())) {
                tree.problem(path, "expected one of " + String.join(", ", known) + ", given "
                        + (value.isMissingNode() ? "nothing" : ConfigRules.shown(value)));
            }
            return value.asText();
        }

        private List<String> listOf(JsonNode list, String path, Collection<String> known) {
            if (!list.isArray() && !list.isMissingNode()) {
                tree.problem(path, "expected a list, given " + ConfigRules.shown(list));
            }
            final List<String> values = StreamSupport.stream(list.spliterator(), false).map(JsonNode::asText).toList();
            for (int i = 0; list.isArray() && i < values.size(); i++) {
                among(list.get(i), path + "[" + i + "]", known);
            }
            return list.isArray() ? values : List.of();
        }
    }
}
