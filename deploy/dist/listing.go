package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// write writes a file of the distribution.
func (d *distribution) write(name, about string, content []byte) error {
	sum := sha256.Sum256(content)
	d.files = append(d.files, file{name, about, len(content), hex.EncodeToString(sum[:])})
	return os.WriteFile(filepath.Join(d.dir, name), content, 0o644) //nolint:gosec // names are made of the version, which was checked
}

// published writes what make publish must know.
func (d *distribution) published(context.Context) error {
	text, err := json.MarshalIndent(published{Version: d.Version, Places: d.Places}, "", "  ")
	if err != nil {
		return err
	}
	return d.write(publishedName(d.Version), "version and places of this release, for make publish", append(text, '\n'))
}

// readme writes what is there. The text is the same as the output of the command.
func (d *distribution) readme(context.Context) error {
	var text strings.Builder
	fmt.Fprintf(&text, "# bitbucket-runner-scaler %s\n\nCommit %s of %s, built with %s.\n\n", d.Version, d.Commit, d.Date.Format(time.RFC3339), runtime.Version())
	if examples := d.examples(); len(examples) > 0 {
		fmt.Fprintf(&text, "**Not for others yet.** At example.com, because `make dist` was not given anything else: %s. docs/releasing.md lists the variables.\n\n", strings.Join(examples, ", "))
	}
	text.WriteString("| file | what it is | size |\n|---|---|---|\n")
	slices.SortFunc(d.files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	for _, f := range d.files {
		fmt.Fprintf(&text, "| %s | %s | %s |\n", f.name, f.about, size(f.size))
	}
	number := d.Number()
	fmt.Fprintf(&text, `
Check the files with `+"`sha256sum -c %[1]s`"+`. The licences of what a program contains are in its archive, as THIRD_PARTY_LICENSES,
and in the image under /licenses. The bills of materials of the image %[2]s are those of scaler and sidecar.

crds: none. The project defines no custom resources; KEDA and its ScaledJobs must be installed.

Push the images and the chart with `+"`make publish`"+`, or by hand:

    skopeo copy --all oci-archive:%[2]s docker://%[3]s:%[4]s
    skopeo copy --all oci-archive:%[5]s docker://%[6]s:%[4]s
    helm push %[7]s oci://%[8]s

Without a registry, import the image on each node:

    ctr -n k8s.io images import --digests --base-name %[3]s %[2]s

Then install with Helm, with the credentials' Secret and values as in the quickstart of the project's README:

    helm install bitbucket-runner-scaler oci://%[8]s/bitbucket-runner-scaler --version %[9]s -n bitbucket-runner-scaler --values values.yaml

or apply %[10]s with kubectl or kustomize: it is the control plane without groups, which `+"`runnerctl render`"+` makes.
`, sums, imageName("bitbucket-runner-scaler", d.Version), d.Image, d.Version, imageName("bitbucket-emulator", d.Version), d.Emulator, chartName(number), d.Charts, number, installName(d.Version))
	d.say("\n%s", text.String())
	return d.write("README-"+d.Version+".md", "", []byte(text.String()))
}

// size returns a number of bytes for people.
func size(bytes int) string {
	if bytes < 1e6 {
		return fmt.Sprintf("%.0f kB", max(1, float64(bytes)/1e3))
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

// checksums writes the checksums of all files, in the form of sha256sum.
func (d *distribution) checksums(context.Context) error {
	slices.SortFunc(d.files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	var text strings.Builder
	for _, f := range d.files {
		fmt.Fprintf(&text, "%s  %s\n", f.sum, f.name)
	}
	return os.WriteFile(filepath.Join(d.dir, sums), []byte(text.String()), 0o644)
}
