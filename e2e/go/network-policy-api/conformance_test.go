package conformance

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	api "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	upstream "sigs.k8s.io/network-policy-api/conformance"
	report "sigs.k8s.io/network-policy-api/conformance/apis/v1alpha1"
	"sigs.k8s.io/network-policy-api/conformance/tests"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"
	"sigs.k8s.io/yaml"
)

const manifests = "base/manifests.yaml"

var (
	reportFile = flag.String("report", "", "where to write the report, in upstream's form")
	version    = flag.String("implementation-version", "", "the version that the report names")
)

// TestConformance runs all tests, standard and experimental; -test.run chooses among them.
func TestConformance(t *testing.T) {
	rest, err := config.GetConfig()
	must(t, err)
	c, err := client.New(rest, client.Options{})
	must(t, err)
	clients, err := kubernetes.NewForConfig(rest)
	must(t, err)
	must(t, api.Install(c.Scheme()))
	s, err := suite.NewConformanceProfileTestSuite(suite.ConformanceProfileOptions{
		Options: suite.Options{
			Client:               c,
			ClientSet:            clients,
			KubeConfig:           *rest,
			BaseManifests:        base(t),
			CleanupBaseResources: true,
			SupportedFeatures:    suite.AllFeatures.Clone(),
		},
		Implementation: report.Implementation{
			Organization: "axoneme",
			Project:      "axoneme",
			URL:          "https://github.com/axoneme/axoneme",
			Version:      *version,
			Contact:      []string{"https://github.com/axoneme/axoneme/issues"},
		},
		ConformanceProfiles: sets.New(suite.CNPConformanceProfileName),
	})
	must(t, err)
	s.Setup(t)
	s.Run(t, announced(tests.ConformanceTests))
	said, err := s.Report()
	must(t, err)
	text, err := yaml.Marshal(said)
	must(t, err)
	if *reportFile != "" {
		must(t, os.WriteFile(*reportFile, text, 0o644))
	}
}

// announced makes each test say when it ends and how: Go's own lines come only when all have ended.
func announced(list []suite.ConformanceTest) []suite.ConformanceTest {
	list = slices.Clone(list)
	for i, test := range list {
		list[i].Test = func(t *testing.T, s *suite.ConformanceTestSuite) {
			start := time.Now()
			defer func() {
				outcome := "passed"
				if t.Failed() {
					outcome = "failed"
				}
				fmt.Printf("spec: %s %s %.3f\n", outcome, test.ShortName, time.Since(start).Seconds())
			}()
			test.Test(t, s)
		}
	}
	return list
}

// sctp tells whether the kernel has SCTP.
func sctp() bool {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, syscall.IPPROTO_SCTP)
	if err != nil {
		return false
	}
	_ = syscall.Close(socket)
	return true
}

// base gives the manifest of the pods that all tests use: upstream's, without SCTP servers where they cannot be. The suite
// takes other manifests than its own by HTTPS only.
func base(t *testing.T) string {
	if sctp() {
		return manifests
	}
	text, err := upstream.Manifests.ReadFile(manifests)
	must(t, err)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(withoutSctp(string(text))))
	}))
	t.Cleanup(server.Close)
	http.DefaultTransport = server.Client().Transport
	return server.URL + "/" + manifests
}

var container = regexp.MustCompile(`(?m)^        - name: .*\n(?:         .*\n|\s*#.*\n)*`)

// withoutSctp removes the containers that serve SCTP. The text is a template, which is not YAML yet.
func withoutSctp(text string) string {
	return container.ReplaceAllStringFunc(text, func(c string) string {
		if strings.Contains(c, "SERVE_SCTP_PORT") {
			return ""
		}
		return c
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
