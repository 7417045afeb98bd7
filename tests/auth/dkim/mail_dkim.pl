# Mail::DKIM as a judge: each line of stdin is a question in JSON, each line of stdout its answer.
use strict;
use warnings;
use JSON::PP;
use MIME::Base64;
use Mail::DKIM::DNS;
use Mail::DKIM::PrivateKey;
use Mail::DKIM::Signer;
use Mail::DKIM::Verifier;
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
    my $verifier = Mail::DKIM::Verifier->new();
    $verifier->PRINT(decode_base64($question->{message}));
    $verifier->CLOSE();
    return [map { $_->result } $verifier->signatures];
}

sub sign {
    my ($question) = @_;
    (my $data = $question->{key}) =~ s/-----[^-]+-----|\s//g;
    my $key = Mail::DKIM::PrivateKey->load(Data => $data);
    my $signer = Mail::DKIM::Signer->new(
        Algorithm => "$question->{type}-sha256",
        Method    => $question->{canonicalization},
        Domain    => $question->{domain},
        Selector  => $question->{selector},
        Key       => $key,
    );
    $signer->PRINT(decode_base64($question->{message}));
    $signer->CLOSE();
    return [map { $_->as_string } $signer->signatures];
}

$| = 1;
while (my $line = <STDIN>) {
    my $question = decode_json($line);
    print encode_json($question->{key} ? sign($question) : verify($question)), "\n";
}
