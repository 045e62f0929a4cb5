/** Tasks whose prompts a program makes, with a teacher who can solve them: what small models learn on a CPU. */
package org.teamtr.task.generated;
