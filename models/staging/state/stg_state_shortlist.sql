with

source as (

    select * from {{ source('state', 'shortlist') }}

),

renamed as (

    select
        product_number,
        recommended_product_key,
        copurchase_count::bigint as copurchase_count
    from source

)

select * from renamed
