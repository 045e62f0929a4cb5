/** The command line: {@code ./teamtr}. */
package org.teamtr.cli;
