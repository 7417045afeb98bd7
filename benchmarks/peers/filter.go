// The measured filters on Debian's golang-github-emersion-go-milter-dev: filter NETWORK ADDRESS typical|noop|waiting.
package main

import (
	"net"
	"net/textproto"
	"os"
	"time"

	"github.com/emersion/go-milter"
)

type filter struct {
	milter.NoOpMilter
	edits, waits bool
}

func (f *filter) MailFrom(from string, m *milter.Modifier) (milter.Response, error) {
	if f.waits {
		time.Sleep(50 * time.Millisecond)
	}
	return milter.RespContinue, nil
}

func (f *filter) Header(name string, value string, m *milter.Modifier) (milter.Response, error) {
	return milter.RespContinue, nil
}

func (f *filter) Headers(h textproto.MIMEHeader, m *milter.Modifier) (milter.Response, error) {
	return milter.RespContinue, nil
}

func (f *filter) BodyChunk(chunk []byte, m *milter.Modifier) (milter.Response, error) {
	return milter.RespContinue, nil
}

func (f *filter) Body(m *milter.Modifier) (milter.Response, error) {
	if f.edits {
		if err := m.AddHeader("X-Seen", "yes"); err != nil {
			return nil, err
		}
	}
	return milter.RespContinue, nil
}

func main() {
	listener, err := net.Listen(os.Args[1], os.Args[2])
	if err != nil {
		panic(err)
	}
	kind := os.Args[3]
	server := milter.Server{
		NewMilter: func() milter.Milter { return &filter{edits: kind != "noop", waits: kind == "waiting"} },
		Actions:   milter.OptAddHeader,
		// The library takes no part in these; all else is answered, also where no answer was agreed on.
		Protocol: milter.OptNoData | milter.OptNoUnknown,
	}
	if err := server.Serve(listener); err != nil {
		panic(err)
	}
}
