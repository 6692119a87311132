with

source as (

    select * from {{ source('state', 'input_files') }}

),

renamed as (

    select
        number as file_number,
        path as source_file
    from source

)

select * from renamed
