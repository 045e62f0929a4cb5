/**
 * The output of a run: the files of a run directory, {@code report.html}, pictures that compare runs, progress while training.
 *
 * <p>{@link org.teamtr.report.RunWriter} writes a run directory, {@link org.teamtr.report.RunFiles} reads it,
 * {@link org.teamtr.report.Report} makes a page of it.
 */
package org.teamtr.report;
