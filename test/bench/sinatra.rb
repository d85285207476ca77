# A Sinatra application on WEBrick that serves the list and the document, and logs each request. It is the Ruby script of a talk
# of 2015, from which the idea of ec2-role comes. The original called STS in every request. This copy serves a fixed credential,
# so that the benchmark does not measure STS.
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
