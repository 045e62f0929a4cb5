/**
 * Mathematical answers: read from LaTeX or plain text, and compared by what they mean.
 *
 * <p>Start at {@link org.teamtr.task.math.MathAnswer}.
 */
package org.teamtr.task.math;
