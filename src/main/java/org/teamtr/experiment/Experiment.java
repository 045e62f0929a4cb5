package org.teamtr.experiment;

import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What an experiment measures and what the paper says of it, as its YAML file has it. The command line decides which runs are made.
 * Immutable.
 *
 * @param name of the file, without .yaml
 * @param points in the order of tables
 * @param columns what is measured of a run, by name
 * @param curves what is measured of its stages, or of its updates as a histogram, by name
 * @param published the paper's numbers: point, column, number; not all of them
 * @param claims that are tested
 */
public record Experiment(String name, Text text, List<Point> points, Map<String, Column> columns, Map<String, Column> curves,
        Pictures pictures, Map<String, Map<String, Double>> published, List<Claim> claims) {

    /**
     * Its texts for pages.
     *
     * @param title a line
     * @param paper the table or figure it is about
     * @param question the question, and what readers should know
     * @param reading the authors' conclusions from their runs; may be empty
     * @param yaml the whole file
     */
    public record Text(String title, String paper, String question, String reading, String yaml) {
    }

    /**
     * What is drawn.
     *
     * @param x the axis that pictures have their numbers from; null for bars, one for each point
     * @param where values on other axes that a point has to have to be in pictures; none for all points
     * @param columns names of columns that get a picture
     */
    public record Pictures(String x, List<String> where, List<String> columns) {
    }

    /**
     * One setting.
     *
     * @param at its value on each axis
     */
    public record Point(String name, Map<String, String> at) {
    }

    /**
     * A number of a run.
     *
     * @param label one line
     * @param of as {@link RunNumbers} has it, or {@code a / b}, two columns before it
     * @param scale what it is multiplied by
     * @param unit empty for none
     * @param bin of a curve that is a histogram, the width of its bins; 0 for anything else
     */
    public record Column(String label, String of, double scale, String unit, double bin) {
        private static final Pattern RATIO = Pattern.compile("([a-z0-9_]+) / ([a-z0-9_]+)");

        /** {@return the names of the two columns that it is the ratio of; null if it is none} */
        List<String> ratio() {
            final Matcher m = RATIO.matcher(of);
            return m.matches() ? List.of(m.group(1), m.group(2)) : null;
        }

        /** {@return the label with its unit} */
        public String titled() {
            return unit.isEmpty() ? label : label + ", " + unit;
        }
    }

    /** {@return the paper's number, or NaN} */
    double published(String point, String column) {
        return published.getOrDefault(point, Map.of()).getOrDefault(column, Double.NaN);
    }
}
