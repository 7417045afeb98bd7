# Mail::DKIM's ARC as a judge: each line of stdin is a question in JSON, each line of stdout its answer.
use strict;
use warnings;
use JSON::PP;
use MIME::Base64;
use Mail::DKIM::DNS;
use Mail::DKIM::PrivateKey;
use Mail::DKIM::ARC::Signer;
use Mail::DKIM::ARC::Verifier;
use Net::DNS;

my %records;
{
    no warnings 'redefine';
    # No question leaves this process.
    *Mail::DKIM::DNS::query = sub {
        my ($name, $type) = @_;
        $@ = 'NXDOMAIN';
        return unless exists $records{lc $name};
        $@ = 'NOERROR';
        return Net::DNS::RR->new(name => $name, type => 'TXT', txtdata => $records{lc $name});
    };
}

sub verify {
    my ($question) = @_;
    %records = %{$question->{records}};
    my $verifier = Mail::DKIM::ARC::Verifier->new();
    $verifier->PRINT(decode_base64($question->{message}));
    $verifier->CLOSE();
    return [$verifier->result, $verifier->result_detail];
}

sub seal {
    my ($question) = @_;
    (my $data = $question->{key}) =~ s/-----[^-]+-----|\s//g;
    my $signer = Mail::DKIM::ARC::Signer->new(
        Algorithm => "$question->{type}-sha256",
        Chain     => $question->{chain},
        Domain    => $question->{domain},
        SrvId     => $question->{authserv_id},
        Selector  => $question->{selector},
        Key       => Mail::DKIM::PrivateKey->load(Data => $data),
    );
    $signer->PRINT(decode_base64($question->{message}));
    $signer->CLOSE();
    return [$signer->as_strings];
}

$| = 1;
while (my $line = <STDIN>) {
    my $question = decode_json($line);
    print encode_json($question->{key} ? seal($question) : verify($question)), "\n";
}
