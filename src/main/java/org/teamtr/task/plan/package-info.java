/** Planning: STRIPS domains in PDDL, the simulation of plans, and PlanBench's English of the blocks world. */
package org.teamtr.task.plan;
