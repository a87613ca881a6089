package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/jobtemplate"
)

// maxInput is more than a configuration may have, so that a larger one is refused
// rather than cut.
const maxInput = 2 << 20

// renderFlags are the files of a run.
type renderFlags struct{ file, jobTemplate, dir string }

func renderCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "render -f FILE [-o DIR]",
		Short: "Write the manifests of the runner groups in a configuration file",
		Long: `render writes the manifests of the runner groups in a configuration file, a
runners_config.yaml: to stdout, or into a directory that "kubectl apply -k" takes.

A directory's files are replaced all together or not at all. render refuses to
overwrite a file that it did not write.`,
		Example: `  runnerctl render -f runners_config.yaml | kubectl apply -f -
  runnerctl render -f runners_config.yaml -o groups && kubectl apply -k groups
  runnerctl render -f runners_config.yaml --job-template job_config.yaml -o groups`,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	set := command.Flags(c, "", nil)
	var f renderFlags
	set.StringVarP(&f.file, "filename", "f", "", "configuration `file`, - for stdin")
	set.StringVarP(&f.dir, "output", "o", "", "`directory` for the manifests and a kustomization.yaml; without it all goes to stdout")
	set.StringVar(&f.jobTemplate, "job-template", "", "`file` with the job template of Atlassian's runners-autoscaler, or its ConfigMap: render carries its changes over, or notes why it does not")
	completeFiles(c, "filename", "job-template")
	_ = c.MarkFlagDirname("output") // fails for an unknown flag
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		set.NoArguments(args)
		if f.file == "" {
			set.Fault("--filename: missing, want -f FILE, or -f - for stdin")
		}
		if err := set.Err(); err != nil {
			return err
		}
		return f.run(c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// completeFiles lets shells complete configuration files as the values of flags.
func completeFiles(c *cobra.Command, flags ...string) {
	for _, name := range flags {
		_ = c.MarkFlagFilename(name, "yaml", "yml", "json") // fails for an unknown flag
	}
}

func (f renderFlags) run(stdin io.Reader, stdout, stderr io.Writer) error {
	content, err := f.read(stdin)
	if err != nil {
		return err
	}
	for _, note := range content.Notes {
		if _, err := fmt.Fprintln(stderr, "runnerctl: note:", note); err != nil {
			return err
		}
	}
	files, err := jobfactory.Manifests(content.Groups)
	if err != nil {
		return fmt.Errorf("render %s: %w", f.file, err)
	}
	if f.dir == "" {
		if err := stream(stdout, files); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stderr, "%s in %s\n", count(len(content.Groups), "group"), count(namespaces(content.Groups), "namespace"))
		return err
	}
	written, removed, err := write(f.dir, files)
	if err != nil {
		return fmt.Errorf("render: %w", err)
	}
	for _, path := range removed {
		if _, err := fmt.Fprintf(stderr, "runnerctl: note: removed %s: its group is not in %s any more; kubectl apply does not delete what is in the cluster\n", filepath.Join(f.dir, filepath.FromSlash(path)), f.file); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(stdout, "wrote %s to %s\n", count(written, "file"), f.dir)
	return err
}

// read reads the files that the flags name.
func (f renderFlags) read(stdin io.Reader) (config.File, error) {
	data, err := contents(f.file, stdin)
	if err != nil {
		return config.File{}, exit.With(exit.Unclear, fmt.Errorf("render: %w", err))
	}
	var template *jobtemplate.Template
	if f.jobTemplate != "" {
		text, err := contents(f.jobTemplate, stdin)
		if err != nil {
			return config.File{}, exit.With(exit.Unclear, fmt.Errorf("render: %w", err))
		}
		if template, err = jobtemplate.Read(text); err != nil {
			return config.File{}, fmt.Errorf("render %s: %w", f.jobTemplate, err)
		}
	}
	content, err := config.ReadWithTemplate(data, template)
	if err != nil {
		return content, fmt.Errorf("render %s:\n%w", f.file, err)
	}
	return content, nil
}

func namespaces(groups []jobfactory.RunnerGroup) int {
	seen := map[string]bool{}
	for _, group := range groups {
		seen[group.Namespace] = true
	}
	return len(seen)
}

// count is a number and what it counts: 1 file, 2 files.
var count = command.Count

// contents reads a file, or stdin if it is -.
func contents(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(stdin, maxInput))
	}
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = opened.Close() }()
	return io.ReadAll(io.LimitReader(opened, maxInput))
}

// stream writes everything as one stream of documents.
func stream(stdout io.Writer, files []jobfactory.File) error {
	var objects []any
	for _, file := range files {
		objects = append(objects, file.Objects...)
	}
	data, err := jobfactory.Marshal(objects...)
	if err != nil {
		return err
	}
	_, err = stdout.Write(data)
	return err
}

// write makes a directory that `kubectl apply -k` takes, and returns the number of
// files and what it removed: manifests of an earlier run whose groups are gone. The
// kustomization takes its place last; of one of the user's own only the resources change.
func write(dir string, files []jobfactory.File) (written int, removed []string, err error) {
	resources := make([]string, 0, len(files))
	out := &replacement{dir: dir}
	for _, file := range files {
		data, err := jobfactory.Marshal(file.Objects...)
		if err != nil {
			return 0, nil, err
		}
		out.add(file.Path, data)
		resources = append(resources, file.Path)
	}
	k, err := readKustomization(dir)
	if err != nil {
		return 0, nil, err
	}
	data, gone, err := k.with(resources)
	if err != nil {
		return 0, nil, err
	}
	written = len(out.files) + 1
	for _, path := range gone {
		if out.remove(path) {
			removed = append(removed, path)
		}
	}
	out.add(k.name, data)
	return written, removed, out.write()
}
