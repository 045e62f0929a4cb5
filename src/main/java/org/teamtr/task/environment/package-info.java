/**
 * What teams act on: number guessing with a referee, plans with validation, tools. All of it is {@link org.teamtr.team.Environment};
 * {@link org.teamtr.task.environment.Environments} makes them by name.
 */
package org.teamtr.task.environment;
