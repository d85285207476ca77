# The script of the talk of 2015 from which ec2-role comes (README.md): a Sinatra application on WEBrick that returns the list and
# the document, with an access log line for each request. The original called STS in every request. This copy serves a fixed
# credential, so that the benchmark does not measure STS.
require 'sinatra'
require 'json'

set :environment, :production
set :server, 'webrick'
set :bind, '127.0.0.1'
set :port, ENV.fetch('PORT').to_i

BASE = '/latest/meta-data/iam/security-credentials/'.freeze
CREDENTIAL = JSON.parse(File.read(ENV.fetch('DOCUMENT'))).freeze

get(BASE) { 'exc_web' }
get("#{BASE}:role") do
  content_type 'text/plain'
  JSON.pretty_generate(CREDENTIAL)
end
