/**
 * Environments of teams: number guessing with a referee, plans with validation, tools. They implement {@link org.teamtr.team.Environment};
 * {@link org.teamtr.task.environment.Environments} makes them by name.
 */
package org.teamtr.task.environment;
