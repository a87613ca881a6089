package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/jobtemplate"
)

// maxInput is more than a configuration may have, so that it is refused rather
// than cut.
const maxInput = 2 << 20

func render(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("runnerctl render", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("f", "", "configuration `file`, - for stdin")
	jobTemplate := flags.String("job-template", "", "`file` with the job template of Atlassian's runners-autoscaler, or its ConfigMap: what it changes is carried over, or a note says why not")
	dir := flags.String("o", "", "`directory` for the manifests and a kustomization.yaml; without it all goes to stdout")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *file == "" || flags.NArg() > 0 {
		return fmt.Errorf("render: want -f FILE and no further arguments, given %q: %w", args, errUsage)
	}
	data, err := read(*file, stdin)
	if err != nil {
		return fmt.Errorf("render: %w", err)
	}
	var template *jobtemplate.Template
	if *jobTemplate != "" {
		text, err := read(*jobTemplate, stdin)
		if err != nil {
			return fmt.Errorf("render: %w", err)
		}
		if template, err = jobtemplate.Read(text); err != nil {
			return fmt.Errorf("render %s: %w", *jobTemplate, err)
		}
	}
	content, err := config.ReadWithTemplate(data, template)
	if err != nil {
		return fmt.Errorf("render %s:\n%w", *file, err)
	}
	for _, note := range content.Notes {
		if _, err := fmt.Fprintln(stderr, "runnerctl: note:", note); err != nil {
			return err
		}
	}
	files, err := jobfactory.Manifests(content.Groups)
	if err != nil {
		return fmt.Errorf("render %s: %w", *file, err)
	}
	if *dir == "" {
		return stream(stdout, files)
	}
	return write(*dir, files)
}

func read(file string, stdin io.Reader) ([]byte, error) {
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

// write makes a directory that `kubectl apply -k` takes. The kustomization takes its
// place last and names the files of this run alone, so that what an earlier run left
// behind is not applied.
func write(dir string, files []jobfactory.File) error {
	resources := make([]string, 0, len(files))
	out := &replacement{dir: dir}
	for _, file := range files {
		data, err := jobfactory.Marshal(file.Objects...)
		if err != nil {
			return err
		}
		out.add(file.Path, data)
		resources = append(resources, file.Path)
	}
	data, err := yaml.Marshal(map[string]any{
		"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources,
	})
	if err != nil {
		return fmt.Errorf("kustomization: %w", err)
	}
	out.add(kustomization, data)
	return out.write()
}
