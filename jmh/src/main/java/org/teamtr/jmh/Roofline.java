package org.teamtr.jmh;

import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Dimension;
import java.awt.Font;
import java.awt.Graphics2D;
import java.awt.geom.AffineTransform;
import java.awt.image.BufferedImage;
import java.io.FileWriter;
import java.io.IOException;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import javax.imageio.ImageIO;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.parsers.ParserConfigurationException;
import org.apache.batik.svggen.SVGGraphics2D;
import org.knowm.xchart.CategoryChart;
import org.knowm.xchart.style.Styler;

/** GB/s of every kernel and dtype beside streaming bandwidth, which nothing can pass, and its peers: docs/roofline.png and .svg. */
final class Roofline {
    private static final int WIDTH = 1080;
    private static final int HEIGHT = 430;
    private static final int PIXELS = 2; // per point, in the PNG
    private static final Map<String, Color> SIDES = new LinkedHashMap<>();

    static {
        SIDES.put("roofline", new Color(0xc4c9d0));
        SIDES.put("teamtr", new Color(0x3b82f6));
        SIDES.put("libtorch", new Color(0xe8892b));
        SIDES.put("plainJava", new Color(0x1fa97a));
    }

    private Roofline() {
    }

    static void draw(Results results, String picture) throws IOException {
        System.setProperty("java.awt.headless", "true");
        final List<CategoryChart> panels = List.of(panel(results, "F32"), panel(results, "BF16"));
        final SVGGraphics2D svg = canvas();
        svg.setSVGCanvasSize(new Dimension(WIDTH, panels.size() * HEIGHT));
        paint(svg, panels);
        try (Writer out = new FileWriter(picture + ".svg", StandardCharsets.UTF_8)) {
            svg.stream(out, true);
        }
        final BufferedImage image = new BufferedImage(PIXELS * WIDTH, PIXELS * panels.size() * HEIGHT,
                BufferedImage.TYPE_INT_RGB);
        final Graphics2D graphics = image.createGraphics();
        graphics.setPaint(Color.WHITE);
        graphics.fillRect(0, 0, image.getWidth(), image.getHeight());
        graphics.scale(PIXELS, PIXELS);
        paint(graphics, panels);
        graphics.dispose();
        ImageIO.write(image, "png", Path.of(picture + ".png").toFile());
    }

    private static void paint(Graphics2D graphics, List<CategoryChart> panels) {
        final AffineTransform origin = graphics.getTransform();
        for (int i = 0; i < panels.size(); i++) {
            graphics.setTransform(origin);
            graphics.translate(0, i * HEIGHT);
            panels.get(i).paint(graphics, WIDTH, HEIGHT);
        }
    }

    private static SVGGraphics2D canvas() {
        try {
            final DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
            factory.setNamespaceAware(true);
            return new SVGGraphics2D(factory.newDocumentBuilder()
                    .getDOMImplementation().createDocument("http://www.w3.org/2000/svg", "svg", null));
        } catch (ParserConfigurationException e) {
            throw new IllegalStateException("the JDK's own XML parser cannot be configured", e);
        }
    }

    private static CategoryChart panel(Results results, String dtype) {
        final List<Run> runs = Tables.mainRuns(results).stream().filter(r -> r.params().get("dtype").equals(dtype)).toList();
        final CategoryChart chart = new CategoryChart(WIDTH, HEIGHT);
        chart.setTitle(String.format(Locale.ROOT, "%s logits [%d, %d], %d threads, %s", dtype.toLowerCase(Locale.ROOT),
                results.shape()[0],
                results.shape()[1], results.threads(), results.host().level()));
        chart.setYAxisTitle("GB/s");
        final List<String> labels = runs.stream()
                .map(r -> Tables.name(r).replace(" in place", "").replace(", two shards", "")).toList();
        SIDES.forEach((side, color) -> {
            final List<Double> speeds = new ArrayList<>();
            runs.forEach(run -> speeds.add(results.find(run, side).map(Run::gigabytesPerSecond).orElse(0.0)));
            final String name = side.equals("teamtr") ? "TeamTR" : side.equals("plainJava") ? "plain Java" : side;
            chart.addSeries(name, labels, speeds).setFillColor(color);
        });
        final Font font = new Font(Font.SANS_SERIF, Font.PLAIN, 12);
        final Color ink = Color.DARK_GRAY;
        chart.getStyler().setAvailableSpaceFill(0.75).setXAxisLabelRotation(20)
                .setAxisTickLabelsFont(font).setAxisTickLabelsColor(ink)
                .setAxisTitleFont(font).setAxisTicksMarksVisible(false).setPlotGridVerticalLinesVisible(false)
                .setPlotGridLinesColor(new Color(0xe6e8eb)).setPlotGridLinesStroke(new BasicStroke(1)).setYAxisMin(0.0)
                .setYAxisDecimalPattern("0");
        chart.getStyler().setChartBackgroundColor(Color.WHITE).setPlotBackgroundColor(Color.WHITE).setPlotBorderVisible(false)
                .setChartTitleFont(new Font(Font.SANS_SERIF, Font.BOLD, 14)).setChartTitleBoxVisible(false).setChartFontColor(ink)
                .setLegendPosition(Styler.LegendPosition.InsideNE).setLegendLayout(Styler.LegendLayout.Horizontal)
                .setLegendBorderColor(Color.WHITE).setLegendFont(font).setLocale(Locale.ROOT);
        return chart;
    }
}
