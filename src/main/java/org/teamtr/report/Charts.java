package org.teamtr.report;

import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Font;
import java.awt.Graphics2D;
import java.awt.font.FontRenderContext;
import java.awt.geom.AffineTransform;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.math.MathContext;
import java.text.DecimalFormat;
import java.text.DecimalFormatSymbols;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.parsers.ParserConfigurationException;
import org.apache.batik.svggen.SVGGeneratorContext;
import org.apache.batik.svggen.SVGGraphics2D;
import org.apache.batik.svggen.SVGGraphics2DIOException;
import org.knowm.xchart.CategoryChart;
import org.knowm.xchart.CategorySeries;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYSeries;
import org.knowm.xchart.style.AxesChartStyler;
import org.knowm.xchart.style.markers.Marker;
import org.knowm.xchart.style.markers.SeriesMarkers;
import org.w3c.dom.Document;

/** XChart's charts in the style of the report, and as SVG for a page: without title and legend, which the page writes itself. */
public final class Charts {
    static final int WIDTH = 440;
    static final int HEIGHT = 236;
    /** Mid-tones that can be read on white and on near-black. Red is not among them: it means out of the trust region. */
    public static final List<Color> PALETTE = List.of(new Color(0x3b82f6), new Color(0xe8892b), new Color(0x1fa97a), new Color(0xa06be0),
            new Color(0xd9569d), new Color(0x14a3b8), new Color(0xa8962a), new Color(0xb0764a));
    static final Color RED = new Color(0xe5484d);
    public static final Color GREY = new Color(0x8a93a0);
    /** Replaced by the text colour of the page. */
    public static final Color INK = new Color(1, 2, 3);

    /** A chart as what draws it: XChart's own type of all charts is internal to it. */
    @FunctionalInterface
    public interface Drawing {
        void paint(Graphics2D graphics, int width, int height);

        /** {@return the drawing of a chart, null of null} */
        static Drawing of(XYChart chart) {
            return chart == null ? null : chart::paint;
        }
    }

    /** How a series is drawn. */
    public enum Look { LINE, DASHES, POINTS }

    /** The scale of the vertical axis. */
    public enum Scale { LINEAR, FROM_ZERO, LOGARITHMIC }

    /** One series; points that are not finite are left out. {@code error} may be null. */
    public record Series(String name, double[] x, double[] y, double[] error, Color color, Look look) {
        public Series {
            final double[] xs = x;
            final double[] ys = y;
            final double[] errors = error;
            final int[] keep = IntStream.range(0, xs.length).filter(i -> Double.isFinite(xs[i]) && Double.isFinite(ys[i]))
                    .toArray();
            x = Arrays.stream(keep).mapToDouble(i -> xs[i]).toArray();
            y = Arrays.stream(keep).mapToDouble(i -> ys[i]).toArray();
            error = error == null ? null : Arrays.stream(keep).mapToDouble(i -> Double.isFinite(errors[i]) ? errors[i] : 0)
                    .toArray();
        }

        /** {@return where the outermost of its whiskers ends, the upper ones for 1, the lower ones for -1} */
        double end(int sign) {
            return sign * IntStream.range(0, y.length).mapToDouble(i -> sign * y[i] + (error == null ? 0 : error[i])).max()
                    .orElse(Double.NaN);
        }

        public static Series line(String name, double[] x, double[] y, Color color) {
            return new Series(name, x, y, null, color, Look.LINE);
        }
    }

    private Charts() {
    }

    /**
     * {@return null if charts can be drawn here, otherwise a sentence that says what is missing} Java draws text with the
     * system's fonts, and a server without any fails in one of several ways.
     */
    public static String missing() {
        if (System.getProperty("java.awt.headless") == null) {
            System.setProperty("java.awt.headless", "true");
        }
        try {
            new Font(Font.SANS_SERIF, Font.PLAIN, 12)
                    .getStringBounds("0", new FontRenderContext(new AffineTransform(), true, true));
            return null;
        } catch (LinkageError | InternalError | RuntimeException e) {
            Throwable cause = e;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            return "There are no charts here, because Java found no fonts on this machine (" + cause.getMessage()
                    + "). Install some, on "
                    + "Debian or Ubuntu with: apt-get install fontconfig fonts-dejavu-core, on Fedora with: dnf install fontconfig "
                    + "dejavu-sans-fonts. Then ./teamtr report RUN writes this page again.";
        }
    }

    /** {@return lines and points over a numeric axis, or null if there is nothing to see: fewer than two points} */
    public static XYChart xy(List<Series> series, Scale scale) {
        final XYChart chart = new XYChart(WIDTH, HEIGHT);
        style(chart.getStyler());
        final List<Series> there = series.stream().filter(s -> s.x().length > 0).toList();
        if (there.stream().mapToInt(s -> s.x().length).max().orElse(0) < 2) {
            return null;
        }
        final double least = there.stream().flatMapToDouble(s -> Arrays.stream(s.y())).min().orElse(0);
        final double most = there.stream().flatMapToDouble(s -> Arrays.stream(s.y())).max().orElse(0);
        // A little room at both ends. Without it XChart labels every point of evenly spaced ones, however narrow that gets.
        final double from = there.stream().flatMapToDouble(s -> Arrays.stream(s.x())).min().orElse(0);
        final double to = there.stream().flatMapToDouble(s -> Arrays.stream(s.x())).max().orElse(0);
        chart.getStyler().setXAxisMin(from - 0.015 * (to - from)).setXAxisMax(to + 0.015 * (to - from));
        if (there.stream().flatMapToDouble(s -> Arrays.stream(s.x())).anyMatch(x -> x != Math.rint(x))) {
            chart.getStyler().setXAxisTickLabelsFormattingFunction(Charts::number); // not stages or updates, which have whole numbers
        }
        // A logarithmic axis has ticks at decades only: with fewer than two of them a linear one says more.
        chart.getStyler().setYAxisLogarithmic(scale == Scale.LOGARITHMIC && least > 0 && most > 100 * least);
        if (scale == Scale.FROM_ZERO && least > 0) {
            chart.getStyler().setYAxisMin(0.0);
        }
        if (most - least <= 1e-12 * Math.max(Math.abs(most), 1e-300)) { // all equal: a range of its own, or XChart makes one of 0
            final double room = most == 0 ? 1 : 0.5 * Math.abs(most);
            chart.getStyler().setYAxisMin(least - room).setYAxisMax(most + room);
        }
        // Whiskers that would leave no room for anything else go beyond the chart.
        final double room = 0.5 * (most - least);
        final double low = there.stream().mapToDouble(s -> s.end(-1)).min().orElse(least);
        final double high = there.stream().mapToDouble(s -> s.end(1)).max().orElse(most);
        if (room > 0 && (low < least - room || high > most + room) && !chart.getStyler().isYAxisLogarithmic()) {
            chart.getStyler().setYAxisMin(Math.max(low, least - room)).setYAxisMax(Math.min(high, most + room));
        }
        there.forEach(s -> add(chart, s));
        return chart;
    }

    /** Adds a series to lines and points. */
    static void add(XYChart chart, Series s) {
        final XYSeries drawn = s.error() == null ? chart.addSeries(s.name(), s.x(), s.y())
                : chart.addSeries(s.name(), s.x(), s.y(), s.error());
        final boolean points = s.look() == Look.POINTS;
        final Marker marker = points || s.x().length <= 40 && s.look() == Look.LINE ? SeriesMarkers.CIRCLE : SeriesMarkers.NONE;
        drawn.setXYSeriesRenderStyle(points ? XYSeries.XYSeriesRenderStyle.Scatter : XYSeries.XYSeriesRenderStyle.Line);
        drawn.setMarker(marker).setMarkerColor(s.color());
        drawn.setLineColor(s.color());
        drawn.setLineStyle(s.look() == Look.DASHES
                ? new BasicStroke(1.5f, BasicStroke.CAP_BUTT, BasicStroke.JOIN_ROUND, 10, new float[] {6, 4}, 0)
                : new BasicStroke(2, BasicStroke.CAP_ROUND, BasicStroke.JOIN_ROUND));
    }

    /** {@return bars side by side or on top of each other, one group for each label} */
    public static CategoryChart bars(List<String> labels, List<Series> series, boolean stacked) {
        final CategoryChart chart = new CategoryChart(WIDTH, HEIGHT);
        style(chart.getStyler());
        chart.getStyler().setStacked(stacked).setAvailableSpaceFill(0.8);
        for (Series s : series) {
            final List<Double> y = Arrays.stream(s.y()).boxed().toList();
            final CategorySeries drawn = s.error() == null ? chart.addSeries(s.name(), labels, y)
                    : chart.addSeries(s.name(), labels, y, Arrays.stream(s.error()).boxed().toList());
            drawn.setFillColor(s.color());
            drawn.setLineColor(s.color());
        }
        return chart;
    }

    private static void style(AxesChartStyler styler) {
        style(styler, INK, new Color(255, 255, 255, 0));
    }

    /** Faint horizontal lines and nothing else but the data. */
    static void style(AxesChartStyler styler, Color ink, Color paper) {
        final Font font = new Font(Font.SANS_SERIF, Font.PLAIN, 13);
        styler.setXAxisTitleVisible(false).setYAxisTitleVisible(false).setAxisTickLabelsFont(font).setAxisTickLabelsColor(ink)
                .setAxisTicksMarksVisible(false).setAxisTicksLineVisible(false).setPlotGridVerticalLinesVisible(false)
                .setPlotGridLinesColor(new Color(ink.getRed(), ink.getGreen(), ink.getBlue(), 36))
                .setPlotGridLinesStroke(new BasicStroke(1)).setErrorBarsColorSeriesColor(false)
                .setErrorBarsColor(new Color(ink.getRed(), ink.getGreen(), ink.getBlue(), 150)).setPlotMargin(0)
                .setYAxisTickLabelsFormattingFunction(Charts::number).setYAxisTickMarkSpacingHint(42);
        styler.setXAxisMaxLabelCount(9).setXAxisTickMarkSpacingHint(64).setXAxisDecimalPattern("0");
        styler.setChartBackgroundColor(paper).setPlotBackgroundColor(paper).setPlotBorderVisible(false).setLegendVisible(false)
                .setChartTitleVisible(false).setChartPadding(9).setMarkerSize(6).setLocale(Locale.ROOT);
        styler.setPlotContentSize(0.96);
    }

    /** {@return three significant digits, without an exponent where that is short} */
    public static String number(double value) {
        if (!Double.isFinite(value)) {
            return "–";
        }
        if (Math.abs(value) < 1e-12) {
            return "0";
        }
        final double size = Math.abs(value);
        final BigDecimal rounded = new BigDecimal(value).round(new MathContext(3)).stripTrailingZeros();
        return (size >= 1e-4 && size < 1e6 ? rounded.toPlainString()
                : new DecimalFormat("0.##E0", DecimalFormatSymbols.getInstance(Locale.ROOT)).format(rounded).replace('E', 'e'))
                .replace('-', '−');
    }

    /** {@return the chart as an {@code <svg>} element to stand in a page, in the page's text colour, as wide as there is room} */
    public static String svg(Drawing chart, String label) {
        final SVGGraphics2D graphics = graphics();
        chart.paint(graphics, WIDTH, HEIGHT);
        final String svg = write(graphics);
        final String body = svg.substring(svg.indexOf('>', svg.indexOf("<svg")) + 1)
                .replace("rgb(1,2,3)", "currentColor").replaceAll("<!--.*?-->", "")
                .replaceAll("\\s+(?=/?>)", "")
                // Every chart counts its clip paths from 1, and in a page their names have to differ.
                .replaceAll("(clipPath|defs)(\\d+)", "$1" + Integer.toHexString(label.hashCode()) + "-$2");
        return "<svg viewBox=\"0 0 " + WIDTH + " " + HEIGHT + "\" role=\"img\" aria-label=\""
                + Html.escape(label)
                + "\" stroke-linecap=\"square\" stroke-miterlimit=\"10\">" + body;
    }

    /** {@return a canvas that remembers as SVG what is drawn on it} */
    static SVGGraphics2D graphics() {
        try {
            final DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
            factory.setNamespaceAware(true);
            final Document document = factory.newDocumentBuilder().getDOMImplementation()
                    .createDocument("http://www.w3.org/2000/svg", "svg", null);
            final SVGGeneratorContext context = SVGGeneratorContext.createDefault(document);
            context.setPrecision(2);
            context.setComment("");
            return new SVGGraphics2D(context, false);
        } catch (ParserConfigurationException e) {
            throw new IllegalStateException("the JDK's own XML parser cannot be configured", e);
        }
    }

    /** {@return what was drawn, a whole SVG document} */
    static String write(SVGGraphics2D graphics) {
        final StringWriter out = new StringWriter();
        try {
            graphics.stream(out, true);
        } catch (SVGGraphics2DIOException e) {
            throw new IllegalStateException("writing to memory failed", e);
        }
        return out.toString();
    }

    /** {@return the first indices of at most {@code most} bins of equal size over {@code size} things, and size as the last} */
    static int[] bins(int size, int most) {
        final int width = Math.max(1, (size + most - 1) / most);
        final List<Integer> from = new ArrayList<>();
        for (int i = 0; i < size; i += width) {
            from.add(i);
        }
        from.add(size);
        return from.stream().mapToInt(i -> i).toArray();
    }
}
