// Package condition decides what the conditions of a bitbucket-pipelines.yml ask for: whether
// a pattern matches a name or a path, and whether an expression over variables holds. It is
// pure, and it knows neither files nor pipelines.
package condition
