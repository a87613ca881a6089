package lint

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
)

var (
	unreadable = Rule{ID: "manifest-invalid", Severity: Error, Finds: "a document that is neither a configuration nor a manifest, or a ScaledJob with fields that KEDA does not accept",
		Remedy: "correct the document; the message says where it is wrong"}
	badConfig = Rule{ID: "config-invalid", Severity: Error, Finds: "a configuration file that `runnerctl render` refuses",
		Remedy: "correct the key's value; the message says what is accepted"}
	noGroups = Rule{ID: "no-groups", Severity: Warning, Finds: "a file that was named and has no runner group",
		Remedy: "name the file with the groups, or a folder, in which lint passes over such files"}
	elsewhere = Rule{ID: "config-elsewhere", Severity: Warning, Finds: "a configuration inside of another file, such as values of a Helm chart, where neither lint nor render reads it",
		Remedy: "write the configuration into a file of its own"}

	inputRules = []Rule{unreadable, badConfig, noGroups, elsewhere}
)

// Read adds one file that the user named. Its content shows whether it is a
// configuration file or manifests. What cannot be read, or has no group, becomes
// findings.
func (in *Input) Read(file string, data []byte) {
	in.read(&document{file: file, data: data, named: true})
}

// ReadFound adds one file of a folder. A file that is neither a configuration nor has
// manifests of runner groups is passed over. judged says whether it was not.
func (in *Input) ReadFound(file string, data []byte) (judged bool) {
	d := &document{file: file, data: data}
	findings := len(in.findings)
	in.read(d)
	return d.judged || len(in.findings) > findings
}

// document is a file that is being read.
type document struct {
	file string
	data []byte
	// named says whether the user named the file, rather than its folder.
	named bool
	// judged says whether it has something that the rules are about, and kinds are the
	// kinds of its other objects.
	judged bool
	kinds  []string
}

func (in *Input) read(d *document) {
	in.files = append(in.files, d.file)
	if len(d.data) > jobfactory.MaxInput {
		if d.named {
			in.fault(unreadable, d.file, 0, "", fmt.Sprintf("the file has more than %d bytes", jobfactory.MaxInput))
		}
		return
	}
	roots, err := config.Documents(d.data)
	if err != nil {
		in.notYAML(d, err)
		return
	}
	for _, root := range roots {
		in.object(d, root, len(roots) == 1)
	}
	if d.named && !d.judged {
		in.nothing(d, roots)
	}
}

// notYAML reports a file that is not YAML, unless it is a configuration in the form that
// only config repairs. In folders it is reported only if it seems to be the project's.
func (in *Input) notYAML(d *document, err *jobfactory.ConfigError) {
	if source, err := config.Find(d.data); err == nil {
		in.config(d.file, source)
		return
	}
	if at := helm.FindIndex(d.data); at != nil {
		if d.named {
			line := 1 + strings.Count(string(d.data[:at[0]]), "\n")
			in.fault(unreadable, d.file, line, "", "a template of Helm or Jinja, want its output: lint what `helm template` prints")
		}
		return
	}
	if d.named || suspect.Match(d.data) {
		in.fault(unreadable, d.file, err.Line, "", err.Accepted)
	}
}

var (
	// helm matches what makes a template no YAML.
	helm = regexp.MustCompile(`\{\{|\{%`)
	// suspect matches files that are probably meant for the scaler.
	suspect = regexp.MustCompile(`(?m)^\s*kind:\s*["']?ScaledJob|^(groups|config):\s*$`)
)

// nothing reports a file that was named and has nothing to check.
func (in *Input) nothing(d *document, roots []*yaml.Node) {
	switch {
	case len(roots) == 0:
		in.fault(unreadable, d.file, 0, "", "the file is empty, want a configuration or manifests of runner groups")
	case len(d.kinds) > 0:
		in.fault(noGroups, d.file, 0, "", "no runner group, only "+strings.Join(slices.Compact(slices.Sorted(slices.Values(d.kinds))), ", "))
	}
}

// object reads one document of a file. alone says whether it is the only one.
func (in *Input) object(d *document, root *yaml.Node, alone bool) {
	kind := scalar(root, "kind")
	switch {
	case root.Kind != yaml.MappingNode:
		if d.named {
			in.fault(unreadable, d.file, root.Line, "", describe(root)+", want a configuration or manifests of runner groups")
			d.judged = true
		}
	case kind == "" && child(root, "kind") == nil:
		in.withoutKind(d, root, alone)
	case kind == "ScaledJob":
		in.scaledJob(d, root)
	case kind == "List" || kind == "ScaledJobList":
		d.kinds = append(d.kinds, kind)
		if items := child(root, "items"); items != nil {
			for _, item := range items.Content {
				if item.Kind == yaml.MappingNode && child(item, "kind") != nil {
					in.object(d, item, false)
				}
			}
		}
	case kind == "ConfigMap":
		sources := config.InConfigMap(root)
		for _, source := range sources {
			in.config(d.file, source)
		}
		d.judged = d.judged || len(sources) > 0
		d.kinds = append(d.kinds, kind)
	case kind == "Namespace":
		in.namespace(root)
		d.kinds = append(d.kinds, kind)
	case misspelt(root, kind):
		line, _ := lineOf(root, []string{"kind"})
		in.fault(unreadable, d.file, line, "kind", strconv.Quote(kind)+", did you mean ScaledJob?")
		d.judged = true
	default:
		d.kinds = append(d.kinds, kind)
	}
}

// scaledJob reads the manifest of a ScaledJob. One of another scaler is passed over.
func (in *Input) scaledJob(d *document, root *yaml.Node) {
	before := len(in.jobs) + len(in.findings)
	if helm.Match(d.data) && !d.named {
		return // a template that happens to be YAML
	}
	in.manifest(d.file, root)
	if len(in.jobs)+len(in.findings) > before {
		d.judged = true
	} else {
		d.kinds = append(d.kinds, "a ScaledJob of another scaler")
	}
}

// withoutKind reads a document that is no Kubernetes object: a configuration, or if only
// its folder was named, perhaps something else.
func (in *Input) withoutKind(d *document, root *yaml.Node, alone bool) {
	inside := config.Inside(root)
	switch {
	case !d.named && config.IsEmpty(root):
	case config.Is(root) || d.named && inside == "":
		d.judged = true
		if !alone {
			in.fault(badConfig, d.file, root.Line, "", "a configuration beside other documents, want it in a file of its own")
			return
		}
		in.config(d.file, config.Source{Root: root})
	case inside != "":
		d.judged = true
		line, _ := lineOf(root, strings.Split(inside, "."))
		in.fault(elsewhere, d.file, line, inside, "a configuration with groups")
	}
}

// namespace remembers the labels and annotations of a namespace.
func (in *Input) namespace(root *yaml.Node) {
	var object struct {
		Metadata struct {
			Name                string
			Labels, Annotations map[string]string
		}
	}
	if decode(root, &object) == nil {
		in.addNamespace(object.Metadata.Name, object.Metadata.Labels, object.Metadata.Annotations)
	}
}

// kedaKinds are the kinds of KEDA's objects.
var kedaKinds = []string{"ScaledJob", "ScaledObject", "TriggerAuthentication", "ClusterTriggerAuthentication", "CloudEventSource", "ClusterCloudEventSource"}

// misspelt reports whether an object is probably meant to be a ScaledJob.
func misspelt(root *yaml.Node, kind string) bool {
	keda := strings.HasPrefix(scalar(root, "apiVersion"), "keda.sh/") && !slices.Contains(kedaKinds, kind) && !strings.HasSuffix(kind, "List")
	spec := child(root, "spec")
	return keda || spelling.Nearest(kind, kedaKinds) == "ScaledJob" && !slices.Contains(kedaKinds, kind) ||
		spec != nil && child(spec, "jobTargetRef") != nil
}

// describe returns what a message says of a document.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.SequenceNode:
		return "a list"
	default:
		return "plain text"
	}
}
