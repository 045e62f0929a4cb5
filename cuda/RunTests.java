import java.io.PrintWriter;
import java.util.Arrays;
import org.junit.platform.engine.discovery.ClassNameFilter;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.TagFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary;

/**
 * Runs the tests of a package without Maven, for a bundle (bundle.sh): {@code RunTests PACKAGE [+TAG] [-TAG]...}. Only tests with
 * each +TAG and without any -TAG run. Exit code 0 if at least one ran and none failed.
 */
public final class RunTests {
    private RunTests() {
    }

    public static void main(String[] args) {
        final LauncherDiscoveryRequestBuilder builder = LauncherDiscoveryRequestBuilder.request()
                .selectors(DiscoverySelectors.selectPackage(args[0])).filters(ClassNameFilter.includeClassNamePatterns(".*Test"));
        for (String tag : Arrays.copyOfRange(args, 1, args.length)) {
            final String name = tag.substring(1);
            builder.filters(tag.startsWith("+") ? TagFilter.includeTags(name) : TagFilter.excludeTags(name));
        }
        final LauncherDiscoveryRequest request = builder.build();
        final SummaryGeneratingListener result = new SummaryGeneratingListener();
        LauncherFactory.create().execute(request, result, new TestExecutionListener() {
            @Override
            public void executionStarted(TestIdentifier test) { // so that a log cut short shows where
                if (test.isContainer() && test.getSource().isPresent()) {
                    System.out.println("-- " + test.getDisplayName());
                }
            }

            @Override
            public void executionSkipped(TestIdentifier test, String reason) {
                System.out.println("   skipped: " + test.getDisplayName() + ": " + reason);
            }
        });
        final TestExecutionSummary summary = result.getSummary();
        summary.printFailuresTo(new PrintWriter(System.out, true), 30);
        System.out.println("Tests run: " + summary.getTestsStartedCount() + ", Failures: " + summary.getTotalFailureCount()
                + ", Skipped: " + (summary.getTestsSkippedCount() + summary.getTestsAbortedCount()));
        System.exit(summary.getTotalFailureCount() > 0 || summary.getTestsSucceededCount() == 0 ? 1 : 0);
    }
}
