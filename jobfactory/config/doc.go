// Package config reads runners_config.yaml: its own form, and both forms of
// Atlassian's runners-autoscaler. It returns runner groups, which package jobfactory
// validates and renders, and the JSON Schema of the file. One table of keys serves
// the reader and the schema. How a job template of the runners-autoscaler becomes
// the groups' defaults is in package jobtemplate.
package config
