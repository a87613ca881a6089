// Package certificates secures the gRPC port: it makes the control plane's own
// certificate authority and server certificate, renews both while calls go on, and
// publishes the authority to the namespaces where KEDA and the sidecars read it;
// or it serves the user's own files.
//
// Certificates are made with client-go's util/cert and the standard library.
// cert-controller, which KEDA uses, is made for webhooks and needs
// controller-runtime's manager; cert-manager is what users may run themselves, and
// give its files. Files are watched by grpc's certprovider.
package certificates
