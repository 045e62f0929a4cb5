/** Tasks whose prompts a program generates, with a teacher that can solve them: tasks that small models learn on a CPU. */
package org.teamtr.task.generated;
