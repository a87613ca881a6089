package jobfactory

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ownVolumes are the volumes that every pod has.
var ownVolumes = []string{tokenVolume, sharedVolume, tmpVolume, containersVolume, runVolume}

// buildMounts returns the mounts that the daemon and the runner have at the same
// paths: the runner passes folders of /tmp to the daemon and reads the logs of its
// containers.
func buildMounts(readOnlyContainers bool) []corev1.VolumeMount {
	return []corev1.VolumeMount{
		{Name: tmpVolume, MountPath: "/tmp"},
		{Name: containersVolume, MountPath: "/var/lib/docker/containers", ReadOnly: readOnlyContainers},
		{Name: runVolume, MountPath: "/var/run"},
	}
}

// mountsOverlap reports whether one mount path is the other one or is inside it, so
// that one of the mounts would hide the other.
func mountsOverlap(a, b string) bool {
	a, b = ResolveMount(a)+"/", ResolveMount(b)+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// MountHides reports whether a mount cannot be added to a container that has another
// one, because one of them would hide the other. A volume for all of the Docker daemon's
// data, such as a large disk, may contain the shared folder of its containers: outer
// paths are mounted first.
func MountHides(own, added string) bool {
	return mountsOverlap(own, added) && (ResolveMount(added) != dockerData || !strings.HasPrefix(ResolveMount(own), dockerData+"/"))
}

// dockerData is the folder of the Docker daemon's images, layers and volumes.
const dockerData = "/var/lib/docker"

// ResolveMount returns the cleaned mount path without a slash at its end, in which
// /var/run is /run, because it is a link to /run in many images.
func ResolveMount(mount string) string {
	mount = path.Clean(mount)
	if mount == "/var/run" || strings.HasPrefix(mount, "/var/run/") {
		mount = strings.TrimPrefix(mount, "/var")
	}
	return strings.TrimSuffix(mount, "/")
}

// find returns the item with the given name, nil if there is none.
func find[T any](items []T, name string, nameOf func(T) string) *T {
	if i := slices.IndexFunc(items, func(item T) bool { return nameOf(item) == name }); i >= 0 {
		return &items[i]
	}
	return nil
}
